"""Models as torch.export writes them, and what PyTorch makes of them.

    programs.py make FOLDER NAME...     FOLDER/NAME.pt2 and FOLDER/NAME.npz for each model
    programs.py run FILE GIVEN MADE     the loss of FILE on the inputs in GIVEN, and `state/` with its weights

A model is exported in training mode with BATCH samples and a batch dimension of any size. In NAME.npz, by the model
itself with OTHER samples, are the inputs (`input/<name>`), the losses of STEPS steps of SGD (`losses`), the gradients
of the first (`grad/<parameter>`), the state after the last (`state/<name>`), and the loss in evaluation mode before
(`before`) and then (`evaluated`), with the other output (`output`), and in training mode then (`then`).
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BATCH, OTHER, STEPS, RATE = 3, 5, 5, 0.1
WIDTH, WORDS, TIME, CLASSES, SIDE = 16, 40, 12, 7, 16


# ---- Models of transformers: a forward that takes tensors and returns a loss and logits


class Outputs(nn.Module):
    """A model of transformers, called with tensors only; it returns the model's own output class."""

    def __init__(self, model):
        super().__init__()
        self.model = model


class MaskedWords(Outputs):
    def forward(self, input_ids, attention_mask, labels):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


class NextWords(Outputs):
    def forward(self, input_ids):
        time = input_ids.size(1)
        later = torch.ones(time, time, dtype=torch.bool, device=input_ids.device).triu(1)
        mask = torch.zeros(time, time, device=input_ids.device).masked_fill(later, -1e9)
        output = self.model(input_ids=input_ids, attention_mask=mask[None, None], labels=input_ids)
        return output.loss, output.logits


class Pictures(Outputs):
    def forward(self, pixel_values, labels):
        output = self.model(pixel_values=pixel_values, labels=labels)
        return {"loss": output.loss, "logits": output.logits}


def words(batch, seed=0):
    return torch.randint(5, WORDS, (batch, TIME), generator=torch.Generator().manual_seed(seed))


def labelled(batch):
    labels = words(batch, 1)
    labels[torch.rand(labels.shape, generator=torch.Generator().manual_seed(2)) < 0.5] = -100
    mask = torch.ones(batch, TIME, dtype=torch.int64)
    mask[:, -2:] = 0
    return {"input_ids": words(batch), "attention_mask": mask, "labels": labels}


def pictures(batch):
    draw = torch.Generator().manual_seed(3)
    return {
        "pixel_values": torch.randn(batch, 3, SIDE, SIDE, generator=draw),
        "labels": torch.randint(0, CLASSES, (batch,), generator=draw),
    }


def bert(dropout=0.0):
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * WIDTH,
        max_position_embeddings=TIME, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )
    return MaskedWords(BertForMaskedLM(config)), labelled


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=WORDS, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=TIME, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, use_cache=False, bos_token_id=0, eos_token_id=0,
    )
    return NextWords(GPT2LMHeadModel(config)), lambda batch: {"input_ids": words(batch)}


def vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * WIDTH, image_size=SIDE,
        patch_size=4, num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    return Pictures(ViTForImageClassification(config)), pictures


def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    return Pictures(ResNetForImageClassification(config)), pictures


# ---- Models of torch.nn


class Numbers(nn.Module):
    """A part between two linear layers, with the squared error to `y` as its loss."""

    def __init__(self, part):
        super().__init__()
        self.into, self.part, self.out = nn.Linear(WIDTH, WIDTH), part, nn.Linear(WIDTH, 1)

    def forward(self, x, y):
        made = self.part(self.into(x))
        made = made[0] if isinstance(made, tuple) else made
        made = self.out(made)
        return F.mse_loss(made, y), made


def rows(batch):
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(batch, TIME, WIDTH, generator=draw)
    return {"x": x, "y": torch.randn(batch, TIME, 1, generator=draw)}


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.batch, self.instance = nn.BatchNorm1d(WIDTH), nn.InstanceNorm1d(WIDTH, affine=True, track_running_stats=True)
        self.bare = nn.BatchNorm1d(WIDTH, track_running_stats=False)
        self.group = nn.GroupNorm(2, WIDTH)

    def forward(self, x):
        x = x.transpose(1, 2)
        return self.group(self.instance(self.batch(x)) + self.bare(x)).transpose(1, 2)


class InPlace(nn.Module):
    """Writes in place, views, regions without gradients, casts, arithmetic on sizes, constants."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.linspace(0.5, 1.5, WIDTH), persistent=False)
        self.register_buffer("seen", torch.zeros(()))
        self.frozen = nn.Parameter(torch.linspace(-1, 1, WIDTH), requires_grad=False)

    def forward(self, x):
        batch, time, width = x.shape
        with torch.no_grad():
            if self.training:
                self.seen.add_(x.mean())
            middle = x.mean(1, keepdim=True)
        with torch.autocast("cpu", enabled=False):
            turned = (x.float() @ x.float().transpose(1, 2)).softmax(-1)
        x = (x - middle).relu_() * self.scale + self.frozen
        halves = x.clone().view(batch, time, 2, width // 2)
        halves[:, :, 0].mul_(2.0)
        first, second = halves.unbind(2)
        joined = torch.cat([second, first], -1) / (batch * time) ** 0.5
        offset = torch.arange(time, device=x.device)[None, :, None].expand(batch, time, 1)
        return joined + turned @ x + offset * torch.tensor([0.01]) + torch.full((batch * 2, 1, 1), 0.5)[batch:]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        self.out.weight = self.words.weight

    def forward(self, ids, labels):
        made = self.out(torch.tanh(self.words(ids)))
        return F.cross_entropy(made.flatten(0, 1), labels.flatten()), made


def transformer():
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, 0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def numbers(part):
    return lambda: (Numbers(part()), rows)


class Noise(nn.Module):
    """Stochastic depth as timm writes it: no flag tells an operator that it trains."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        inner = self.inner(x)
        if not self.training:
            return x + inner + inner
        for keep in (0.5, 0.7):
            x = x + x.new_empty(x.shape[0], 1, 1).bernoulli_(keep).div_(keep) * inner
        return x


class Doubt(nn.Module):
    """Noise that nothing tells apart from what a model computes."""

    def forward(self, x):
        return x + torch.rand_like(x)


class Branching(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


class Custom(nn.Module):
    def forward(self, x):
        return torch.ops.trainyard_tests.twice(x)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.MaxPool1d(3, 1, 1), nn.SiLU())

    def forward(self, x):
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


MODELS = {
    "bert": bert,
    "bert_dropped": lambda: bert(0.2),
    "gpt2": gpt2,
    "vit": vit,
    "resnet": resnet,
    "mlp": numbers(lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))),
    "dropped": numbers(lambda: nn.Sequential(nn.Dropout(0.3), nn.AlphaDropout(0.2), nn.Linear(WIDTH, WIDTH))),
    "noise": numbers(Noise),
    "doubt": numbers(Doubt),
    "branch": numbers(Branching),
    "custom": numbers(Custom),
    "normalised": numbers(Normalised),
    "in_place": numbers(InPlace),
    "transformer": numbers(transformer),
    "lstm": numbers(lambda: nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)),
    "gru": numbers(lambda: nn.GRU(WIDTH, WIDTH, 1, batch_first=True, bidirectional=False)),
    "attention": numbers(Attending),
    "convolution": numbers(Convolved),
    "evaluating": numbers(lambda: nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTH, WIDTH))),
    "lowered": numbers(lambda: nn.BatchNorm1d(TIME)),
    "tied": lambda: (Tied(), lambda batch: {"ids": words(batch), "labels": words(batch, 1)}),
}


# ---- Writing


def exported(model, inputs):
    """With a batch dimension of any size; inputs by name."""
    dynamic = {name: {0: torch.export.Dim.AUTO} for name in inputs}
    return torch.export.export(model, (), inputs, dynamic_shapes=dynamic)


def parts(output):
    """The loss and what else there is."""
    values = list(output.values()) if hasattr(output, "values") else list(output)
    return values[0], values[1]


def make(folder, name):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model.train(name != "evaluating")
    program = exported(model, inputs(BATCH))
    torch.export.save(program.run_decompositions() if name == "lowered" else program, folder / f"{name}.pt2")
    given = inputs(OTHER)
    made = {f"input/{key}": value for key, value in given.items()}
    # Exporting may have changed the buffers that the file has as they were then.
    saved = torch.export.load(folder / f"{name}.pt2")
    model.load_state_dict(saved.state_dict)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], RATE)
    with torch.no_grad():
        made["before"] = parts(model.eval()(**given))[0]
    model.train()
    losses = []
    torch.manual_seed(7)
    for step in range(STEPS):
        loss, _ = parts(model(**given))
        loss.backward()
        if step == 0:
            made |= {f"grad/{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        losses.append(loss.detach().double())
        optimizer.step()
        optimizer.zero_grad()
    made["losses"] = torch.stack(losses)
    made |= {f"state/{key}": value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        made["evaluated"], made["output"] = parts(model.eval()(**given))
        made["then"] = parts(model.train()(**given))[0]
    np.savez(folder / f"{name}.npz", **{key: value.detach().numpy() for key, value in made.items()})


@torch.library.custom_op("trainyard_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


twice.register_fake(torch.empty_like)
twice.register_autograd(lambda context, gradient: gradient * 2)


def run(file, given, made):
    """A tensor of a signature without values would be an error."""
    program = torch.export.load(file)
    inputs = {name: torch.from_numpy(np.load(given)[name]) for name in np.load(given)}
    found = {f"state/{key}": value.clone() for key, value in program.state_dict.items()}
    found["loss"] = parts(program.module()(**inputs))[0]
    np.savez(made, **{key: value.detach().numpy() for key, value in found.items()})


def main():
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore")
    match sys.argv[1:]:
        case ["make", folder, *names]:
            for name in names:
                make(Path(folder), name)
        case ["run", file, given, made]:
            run(file, given, made)


if __name__ == "__main__":
    main()
