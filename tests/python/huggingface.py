"""The example BERT's two models in `transformers`.

Called as: huggingface.py write FOLDER GIVEN.npz MADE.npz, which makes a model of the given sizes with random weights and
saves it; or: huggingface.py read FOLDER GIVEN.npz MADE.npz, which loads one and has nothing missing or left; or with
`states`, which loads one without its head. All write what the model makes of the given ids.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
what, folder = sys.argv[1:3]
given = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[3]).items()}


def write():
    sizes = dict(zip(("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"), given["sizes"].tolist()))
    rows = dict(zip(("vocab_size", "max_position_embeddings"), given["rows"].tolist()))
    pre = bool(given["pre"])
    kind = "RobertaPreLayerNorm" if pre else "Bert"
    padding = int(given["padding"])
    # RoBERTa's numbers of positions begin behind the padding's.
    rows["max_position_embeddings"] += padding + 1 if pre else 0
    config = getattr(transformers, f"{kind}Config")(
        **sizes, **rows, pad_token_id=padding, type_vocab_size=2, layer_norm_eps=1e-12
    )
    torch.manual_seed(3)
    model = getattr(transformers, f"{kind}ForMaskedLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def read():
    model, told = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    # A token of each kind that text has.
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    print(*tokenizer("a b ab ba Z é").input_ids)
    print(type(model).__name__, type(tokenizer).__name__, tokenizer.model_max_length)
    return model


def states():
    return transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False)


model = {"write": write, "read": read, "states": states}[what]().eval()
ids = given["ids"].long()
with torch.no_grad():
    made = {"hidden": model.base_model(ids).last_hidden_state}
    if what != "states":
        made["logits"] = model(ids).logits
np.savez(sys.argv[4], **{name: tensor.numpy() for name, tensor in made.items()})
