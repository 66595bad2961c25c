"""The Llama 3.2 text architecture, written for training many short documents on one core.

Works on one flat row of tokens; attention runs per document, so nothing is padded. Knows ids and
lengths alone. Names are Hugging Face's, so that the state dict is the checkpoint.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "max_position_embeddings": 2048,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def inverse_frequencies(config: dict) -> Tensor:
    """Llama 3's scaled rotary frequencies, (head_dim / 2,)."""
    d, scaling = config["head_dim"], config["rope_scaling"]
    freq = config["rope_theta"] ** (-torch.arange(0, d, 2).double() / d)
    wavelength = 2 * math.pi / freq
    low, high, old = (
        scaling["low_freq_factor"],
        scaling["high_freq_factor"],
        scaling["original_max_position_embeddings"],
    )
    smooth = ((old / wavelength - low) / (high - low)).clamp(0, 1)
    return ((1 - smooth) * freq / scaling["factor"] + smooth * freq).float()


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (N, heads, head_dim), half-split order; cos, sin (N, 1, head_dim)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Attention(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.heads, self.kv, self.d = (
            c["num_attention_heads"],
            c["num_key_value_heads"],
            c["head_dim"],
        )
        dim = c["hidden_size"]
        self.q_proj = nn.Linear(dim, self.heads * self.d, bias=False)
        self.k_proj = nn.Linear(dim, self.kv * self.d, bias=False)
        self.v_proj = nn.Linear(dim, self.kv * self.d, bias=False)
        self.o_proj = nn.Linear(self.heads * self.d, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        n, group = len(x), self.heads // self.kv
        q = rotate(self.q_proj(x).view(n, self.heads, self.d), cos, sin)
        k = rotate(self.k_proj(x).view(n, self.kv, self.d), cos, sin).repeat_interleave(group, 1)
        v = self.v_proj(x).view(n, self.kv, self.d).repeat_interleave(group, 1)
        parts = [t.split(lengths) for t in (q, k, v)]
        out = [
            F.scaled_dot_product_attention(*(t.transpose(0, 1)[None] for t in qkv), is_causal=True)[
                0
            ].transpose(0, 1)
            for qkv in zip(*parts, strict=True)
        ]
        return self.o_proj(torch.cat(out).reshape(n, -1))


class MLP(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = MLP(c)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, lengths: list[int]) -> Tensor:
        h = x + self.self_attn(self.input_layernorm(x), cos, sin, lengths)
        return h + self.mlp(self.post_attention_layernorm(h))


class Decoder(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])


class Llama(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.model = Decoder(config)
        angles = torch.outer(torch.arange(4096).float(), inverse_frequencies(config)).repeat(1, 2)[
            :, None
        ]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor, lengths: list[int], wanted: Tensor) -> Tensor:
        """ids (N,), documents end to end -> logits (len(wanted), vocabulary) at those places."""
        positions = torch.cat([torch.arange(n) for n in lengths])
        cos, sin = self.cos[positions], self.sin[positions]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin, lengths)
        return F.linear(self.model.norm(x[wanted]), self.model.embed_tokens.weight)


@torch.no_grad()
def structured_start(model: Llama, config: dict, seed: int = 0) -> None:
    """A start that copies a little already: what follows a piece is what followed it before.

    The residual's dimensions: 0-95 the token, 96-143 the one before, 144-175 the one before that,
    176 a constant. Layer 0 fetches earlier tokens by position (high rotary frequencies), layer 1
    matches them with the present one by content (low frequencies) and writes what came next.
    """
    torch.manual_seed(seed)
    for p in model.parameters():
        if p.dim() == 2:
            nn.init.normal_(p, std=0.02)
    for layer in model.model.layers:
        nn.init.normal_(layer.self_attn.o_proj.weight, std=0.01)
        nn.init.normal_(layer.mlp.down_proj.weight, std=0.01)
    e = model.model.embed_tokens.weight
    e.normal_(std=0.01)
    e[:, :96].normal_(std=0.15)
    e[:, 176] = 0.9
    freq, d = inverse_frequencies(config), 64
    high = torch.arange(14)
    low = torch.cat((torch.arange(14, 32), torch.arange(46, 64)))

    first = model.model.layers[0].self_attn
    q, k, v, o = (getattr(first, name).weight for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    for group in range(2):
        k[group * d + high, 176] = 1.05
    for head, back in enumerate((1, 2)):
        q[head * d + high, 176] = 1.05 * torch.cos(back * freq[high])
        q[head * d + 32 + high, 176] = -1.05 * torch.sin(back * freq[high])
    v[torch.arange(48), torch.arange(48)] = 1.0
    o[96 + torch.arange(48), torch.arange(48)] = 0.124
    o[144 + torch.arange(32), d + torch.arange(32)] = 0.124

    second = model.model.layers[1].self_attn
    q, k, v, o = (getattr(second, name).weight for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    span = torch.arange(36)
    q[low, span] = 1.7
    k[low, 96 + span] = 1.7
    now, before = torch.arange(24), torch.arange(12)
    q[2 * d + low[:24], 24 + now] = 1.7
    k[d + low[:24], 120 + now] = 1.7
    q[2 * d + low[24:], 96 + before] = 1.7
    k[d + low[24:], 144 + before] = 1.7
    half = torch.arange(48)
    for group in range(2):
        v[group * d + half, 48 * group + half] = 1.0
        o[48 * group + half, 2 * group * d + half] = 2.5 * 0.158
    model.model.norm.weight.fill_(0.7)
