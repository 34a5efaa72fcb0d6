"""Writes PyTorch models as TorchScript, and something for each to learn.

    python export.py bert gpt2 vit resnet --to FOLDER

makes FOLDER/bert/model.pt, FOLDER/bert/data and so on; with --program it makes FOLDER/bert/model.pt2, by torch.export,
in the place of model.pt. Weights and data are random and follow from the
seed; nothing is downloaded. The models are transformers' own, but for the residual network below; the
few lines around each say what forward takes and what it returns.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

PAD, MASK, SPECIAL = 0, 4, 5  # ids below SPECIAL are no words


# ---- What forward takes and returns


class MaskedLanguageModel(nn.Module):
    """BERT that computes its own loss, over the labels that are not -100. Returns (loss, logits)."""

    def __init__(self, sizes):
        from transformers import BertConfig, BertForMaskedLM

        super().__init__()
        config = BertConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.hidden,
            max_position_embeddings=sizes.length,
            hidden_dropout_prob=sizes.dropout,
            attention_probs_dropout_prob=sizes.dropout,
        )
        self.model = BertForMaskedLM(config)

    def forward(self, input_ids, labels):
        output = self.model(input_ids=input_ids, labels=labels)
        return output.loss, output.logits


class CausalLanguageModel(nn.Module):
    """GPT-2, given its mask: the one that it makes for itself cannot be traced. Returns the logits."""

    def __init__(self, sizes):
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        config = GPT2Config(
            vocab_size=sizes.vocabulary,
            n_embd=sizes.hidden,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            n_positions=sizes.length,
            bos_token_id=PAD,
            eos_token_id=PAD,
            resid_pdrop=sizes.dropout,
            embd_pdrop=sizes.dropout,
            attn_pdrop=sizes.dropout,
            use_cache=False,
        )
        self.model = GPT2LMHeadModel(config)

    def forward(self, input_ids):
        time = input_ids.size(1)
        later = torch.ones(time, time, dtype=torch.bool, device=input_ids.device).triu(1)
        mask = torch.zeros(time, time, device=input_ids.device).masked_fill(later, -1e9)
        return self.model(input_ids=input_ids, attention_mask=mask[None, None]).logits


class ImageClassifier(nn.Module):
    """A vision transformer. Returns {"logits": ...}."""

    def __init__(self, sizes):
        from transformers import ViTConfig, ViTForImageClassification

        super().__init__()
        config = ViTConfig(
            hidden_size=sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.hidden,
            hidden_dropout_prob=sizes.dropout,
            attention_probs_dropout_prob=sizes.dropout,
            image_size=sizes.image,
            patch_size=4,
            num_labels=sizes.classes,
        )
        self.model = ViTForImageClassification(config)

    def forward(self, pixel_values):
        return {"logits": self.model(pixel_values=pixel_values).logits}


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class ResidualNetwork(nn.Module):
    """Two stages of residual blocks, the second at half the resolution. Returns the logits."""

    def __init__(self, sizes):
        super().__init__()
        width = max(8, sizes.hidden // 4)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = nn.ModuleList(Block(width) for _ in range(sizes.layers // 2))
        self.halve = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.stage2 = nn.ModuleList(Block(2 * width) for _ in range(sizes.layers - sizes.layers // 2))
        self.head = nn.Linear(2 * width, sizes.classes)

    def forward(self, images):
        x = self.stem(images)
        for block in self.stage1:
            x = block(x)
        x = torch.relu(self.halve(x))
        for block in self.stage2:
            x = block(x)
        return self.head(x.mean((2, 3)))


# ---- Something to learn


def tokens(sizes, random):
    """[samples, length]: each word mostly tells the next, and now and then any word follows."""
    words = sizes.vocabulary - SPECIAL
    ids = random.integers(0, words, (sizes.samples, sizes.length))
    for t in range(1, sizes.length):
        follows = random.random(sizes.samples) < 0.9
        ids[:, t] = np.where(follows, (3 * ids[:, t - 1] + 7) % words, ids[:, t])
    return ids + SPECIAL


def images(sizes, random):
    """[samples, 3, image, image] and a class for each: a picture of the class under noise."""
    pictures = random.normal(size=(sizes.classes, 3, sizes.image, sizes.image))
    labels = random.integers(0, sizes.classes, sizes.samples)
    noise = random.normal(size=(sizes.samples, 3, sizes.image, sizes.image))
    return (pictures[labels] + 2 * noise).astype(np.float32), labels


def write_tokens_as_numbers(folder, sizes, random):
    """A stream of 16-bit ids without a header."""
    tokens(sizes, random).astype("<u2").tofile(folder / "input_ids.bin")


def write_tokens_as_array(folder, sizes, random):
    np.save(folder / "input_ids.npy", tokens(sizes, random).astype(np.int32))


def write_images_as_arrays(folder, sizes, random):
    pixels, labels = images(sizes, random)
    np.save(folder / "images.npy", pixels)
    np.save(folder / "labels.npy", labels)


def write_images_as_safetensors(folder, sizes, random):
    """Two files, each with half of the samples."""
    from safetensors.numpy import save_file

    pixels, labels = images(sizes, random)
    halves = zip(np.array_split(pixels, 2), np.array_split(labels, 2))
    for i, (some, of) in enumerate(halves):
        save_file({"pixel_values": some.copy(), "labels": of.copy()}, folder / f"images-{i}.safetensors")


# ---- Writing


def stay_quiet():
    """Before transformers is imported: it neither fetches anything nor warns of what is meant."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")


def example_inputs(name, sizes):
    """Inputs to trace or export with: their sizes are not baked in, their types are."""
    if name in ("vit", "resnet"):
        return (torch.randn(2, 3, sizes.image, sizes.image),)
    ids = torch.randint(SPECIAL, sizes.vocabulary, (2, sizes.length))
    return (ids, ids) if name == "bert" else (ids,)


def scripted(name, model, sizes):
    """The model as TorchScript. A residual network is compiled, loops and all; what transformers writes
    can only be traced. A trace has the mode it was made in, and Trainyard switches what trains."""
    model.train()
    if name == "resnet":
        return torch.jit.script(model)
    # Dropout is random: two runs of it differ, which is what check_trace would complain of.
    return torch.jit.trace(model, example_inputs(name, sizes), strict=False, check_trace=False)


def save(script, keys, path):
    """With the keys of the Python model's state_dict beside it: a TorchScript has the buffers that are no part of it
    (`persistent=False`) too, and does not tell them apart."""
    torch.jit.save(script, path, _extra_files={"state_dict.json": json.dumps(keys)})


def save_program(name, model, sizes, path):
    """By torch.export, in training mode, for batches of any size. A tensor that stands for two inputs would be one input
    to it, so each has its own."""
    inputs = tuple(tensor.clone() for tensor in example_inputs(name, sizes))
    any_batch = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    program = torch.export.export(model.train(), inputs, dynamic_shapes=any_batch)
    torch.export.save(program, path)


MODELS = {
    "bert": (MaskedLanguageModel, write_tokens_as_numbers),
    "gpt2": (CausalLanguageModel, write_tokens_as_array),
    "vit": (ImageClassifier, write_images_as_safetensors),
    "resnet": (ResidualNetwork, write_images_as_arrays),
}


def main():
    parser = argparse.ArgumentParser(description="Writes PyTorch models as TorchScript, and data for each.")
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--to", type=Path, required=True, help="folder; each model gets its own in it")
    parser.add_argument("--program", action="store_true", help="by torch.export")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--vocabulary", type=int, default=128)
    parser.add_argument("--length", type=int, default=32, help="tokens in a sample")
    parser.add_argument("--image", type=int, default=16, help="pixels on a side, a multiple of 4")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    sizes = parser.parse_args()

    stay_quiet()
    for name in sizes.models:
        model, write = MODELS[name]
        folder = sizes.to / name
        (folder / "data").mkdir(parents=True, exist_ok=True)
        torch.manual_seed(sizes.seed)
        module = model(sizes)
        if sizes.program:
            save_program(name, module, sizes, folder / "model.pt2")
        else:
            keys = list(module.state_dict())
            save(scripted(name, module, sizes), keys, folder / "model.pt")
        write(folder / "data", sizes, np.random.default_rng(sizes.seed))
        count = sum(p.numel() for p in module.parameters())
        print(f"{folder}: {count:,} parameters, {sizes.samples} samples")


if __name__ == "__main__":
    main()
