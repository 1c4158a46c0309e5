"""What a model is made of: enough to count its parameters and to write down the ops of every layer.

A layer is a mixer (attention or a state-space model) and, in transformers, a feed-forward part (dense or experts).
Matrices are out x in under the names that traces use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from workloads.checkpoint import ModelConfig

Shape = tuple[int, int]


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): widths a head, and ranks.

    The cache holds ``kv_rank + rope_dim`` numbers a position, whatever the number of heads. ``q_rank`` None: queries
    are not compressed.
    """

    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    q_rank: int | None = None

    @property
    def key_dim(self) -> int:
        """Width of a head's query and key."""
        return self.nope_dim + self.rope_dim

    @property
    def cached(self) -> int:
        """Numbers cached a position."""
        return self.kv_rank + self.rope_dim


@dataclass(frozen=True)
class Attention:
    """Multi-head (``kv_heads`` = ``heads``), grouped-query or multi-query (``kv_heads`` 1) attention.

    ``rotary_dim``: dimensions of a head that are rotated, 0 for learned positions. ``windows``: sliding window of each
    layer in positions, None where it sees all; empty: all layers see all. ``softcap``: scores pass through tanh.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int = 0
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    softcap: bool = False
    windows: tuple[int | None, ...] = ()
    latent: Latent | None = None

    @property
    def query(self) -> int:
        """Width of all queries."""
        return self.heads * (self.latent.key_dim if self.latent else self.head_dim)

    @property
    def key(self) -> int:
        """Width of all keys; values are as wide."""
        return self.kv_heads * self.head_dim

    @property
    def cached(self) -> int:
        """Numbers cached a position and layer: keys and values, or what they are expanded from."""
        return self.latent.cached if self.latent else 2 * self.key

    def window(self, layer: int) -> int | None:
        """Sliding window of a layer, or None."""
        return self.windows[layer] if self.windows else None


@dataclass(frozen=True)
class FeedForward:
    """A feed-forward part of ``width`` channels; ``activation`` silu, gelu or relu; ``gated``: a product of two."""

    width: int
    activation: str = "silu"
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True)
class Experts:
    """``experts`` routed feed-forward parts of ``width``, ``top_k`` a token, after ``first_dense`` dense layers.

    ``shared_width``: of what every token passes besides; ``shared_gate``: its output times a learned sigmoid.
    """

    experts: int
    top_k: int
    width: int
    shared_width: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    first_dense: int = 0


@dataclass(frozen=True)
class StateSpace:
    """Mamba (``version`` 1, arXiv:2312.00752) or Mamba-2 (2, arXiv:2405.21060): ``inner`` channels, ``state`` numbers
    each, a causal convolution of ``conv`` taps. Version 1: rank of dt. Version 2: heads, groups, SSD chunk length."""

    version: int
    inner: int
    state: int
    conv: int
    rank: int = 0
    heads: int = 0
    groups: int = 1
    chunk: int = 256

    @property
    def conv_channels(self) -> int:
        """Channels of the convolution: x, and in Mamba-2 B and C too."""
        return self.inner + (2 * self.groups * self.state if self.version == 2 else 0)

    @property
    def in_width(self) -> int:
        """Outputs of the input projection: z and x, and in Mamba-2 B, C and dt too."""
        return 2 * self.inner + (2 * self.groups * self.state + self.heads if self.version == 2 else 0)


@dataclass(frozen=True)
class Patches:
    """Images as tokens: ``size`` x ``size`` patches of ``channels``, ``image`` x ``image`` pixels; a class token."""

    size: int
    channels: int
    image: int

    @property
    def count(self) -> int:
        """Patches of an image."""
        return (self.image // self.size) ** 2

    @property
    def inputs(self) -> int:
        """Numbers of a patch."""
        return self.channels * self.size**2


@dataclass(frozen=True)
class Architecture:
    """A model. ``norm`` rmsnorm or layernorm (with bias); ``placement`` of norms: pre, post, or sandwich (both sides).

    ``parallel``: attention and feed-forward part read one norm and are added together. ``positions``: rows of a table
    of learned positions. ``head``: tokens (logits over ``vocab``), pooler, or classes (``vocab`` of them).
    ``embedding_width``: of the token table where it is projected to ``d_model``.
    """

    name: str
    layers: int
    d_model: int
    vocab: int
    attention: Attention | None = None
    ffn: FeedForward | None = None
    moe: Experts | None = None
    ssm: StateSpace | None = None
    norm: str = "rmsnorm"
    placement: str = "pre"
    parallel: bool = False
    tied: bool = False
    head: str = "tokens"
    head_bias: bool = False
    logits_softcap: bool = False
    encoder: bool = False
    positions: int = 0
    token_types: int = 0
    embedding_norm: bool = False
    embedding_scaled: bool = False
    embedding_width: int | None = None
    final_norm: bool = True
    patches: Patches | None = None

    @classmethod
    def of(cls, model: ModelConfig | Architecture) -> Architecture:
        """A Llama-like model in these terms."""
        if isinstance(model, Architecture):
            return model
        c = model
        attention = Attention(c.heads, c.kv_heads, c.head_dim, rotary_dim=c.head_dim)
        return cls(c.name, c.layers, c.d_model, c.vocab, attention, FeedForward(c.ffn), tied=c.tied_embeddings)

    @property
    def norms(self) -> int:
        """Norms around the parts of a layer."""
        if self.ssm or self.parallel:
            return 1
        return 4 if self.placement == "sandwich" else 2

    def routed(self, layer: int) -> bool:
        """Whether a layer's feed-forward part is experts."""
        return self.moe is not None and layer >= self.moe.first_dense

    def with_ffn(self, width: int) -> Architecture:
        """The same with ``width`` channels in its dense feed-forward parts."""
        return self if self.ffn is None else replace(self, ffn=replace(self.ffn, width=width))

    def matrices(self, layer: int) -> dict[str, Shape]:
        """Matrix type to out x in, in the order they run; experts are one of each kind, and Mamba's are its own."""
        return {**self.mixer_matrices(), **self.ffn_matrices(layer)}

    def mixer_matrices(self) -> dict[str, Shape]:
        """Those of attention, or of the state-space model."""
        d, a, s = self.d_model, self.attention, self.ssm
        if s is not None:
            middle = {"ssm_x": (s.rank + 2 * s.state, s.inner), "ssm_dt": (s.inner, s.rank)} if s.version == 1 else {}
            return {"ssm_in": (s.in_width, d), **middle, "ssm_out": (d, s.inner)}
        if a is None:
            return {}
        if a.latent is None:
            return {
                "attn_q": (a.query, d),
                "attn_k": (a.key, d),
                "attn_v": (a.key, d),
                "attn_output": (d, a.heads * a.head_dim),
            }
        t = a.latent
        query = {"attn_q": (a.query, d)}
        if t.q_rank is not None:
            query = {"attn_q_a": (t.q_rank, d), "attn_q_b": (a.query, t.q_rank)}
        return {
            **query,
            "attn_kv_a": (t.cached, d),
            "attn_kv_b": (a.heads * (t.nope_dim + t.value_dim), t.kv_rank),
            "attn_output": (d, a.heads * t.value_dim),
        }

    def ffn_matrices(self, layer: int) -> dict[str, Shape]:
        """Those of the feed-forward part of a layer."""
        if self.ffn is None:
            return {}
        if not self.routed(layer):
            return self._ffn("ffn", self.ffn.width)
        e = self.moe
        shared = self._ffn("shared", e.shared_width) if e.shared_width else {}
        gate = {"shared_router": (1, self.d_model)} if e.shared_gate else {}
        return {"moe_router": (e.experts, self.d_model), **self._ffn("expert", e.width), **shared, **gate}

    def _ffn(self, prefix: str, width: int) -> dict[str, Shape]:
        gate = {f"{prefix}_gate": (width, self.d_model)} if self.ffn.gated else {}
        return {**gate, f"{prefix}_up": (width, self.d_model), f"{prefix}_down": (self.d_model, width)}
