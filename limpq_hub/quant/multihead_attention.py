"""`ExplicitAttention`: what `nn.MultiheadAttention` computes, from layers and products that can be quantized."""

from __future__ import annotations

from typing import TypeAlias, TypeGuard, cast

import torch
from torch import Tensor, nn

Thirds: TypeAlias = dict[nn.Parameter, list[nn.Parameter]]


class ExplicitAttention(nn.Module):
    """Multi-head attention written out: four linear layers and two products.

    `nn.MultiheadAttention` keeps the weights of three linear maps in one parameter and hands them to a function; there
    is no layer in it that could be quantized.

    Args:
        module: what is written out.
        thirds: the three parameters that each parameter of such a module became, by that; grows. Attentions that share
            one then share the three.

    Attributes:
        query, key, value, out_proj: the linear layers.
        embed_dim, kdim, vdim, head_dim, num_heads, batch_first, dropout, bias_k, bias_v, add_zero_attn: as of
            `nn.MultiheadAttention`, for networks that read them, and so the properties.
    """

    bias_k = bias_v = None
    add_zero_attn = False
    # Keeps `nn.TransformerEncoderLayer` from a fused path that would run none of the layers.
    _qkv_same_embed_dim = False

    def __init__(self, module: nn.MultiheadAttention, thirds: Thirds | None = None) -> None:
        super().__init__()
        thirds = {} if thirds is None else thirds
        self.num_heads, self.batch_first, self.dropout = module.num_heads, module.batch_first, module.dropout
        self.embed_dim, self.head_dim = module.embed_dim, module.head_dim
        self.kdim, self.vdim = module.kdim, module.vdim
        if module._qkv_same_embed_dim:
            weights = _thirds_of(module.in_proj_weight, thirds)
        else:
            weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
        biases = [None, None, None] if module.in_proj_bias is None else _thirds_of(module.in_proj_bias, thirds)
        self.query, self.key, self.value = map(_linear, weights, biases)
        projection = cast(nn.Linear, module.out_proj)
        self.out_proj = _linear(cast(nn.Parameter, projection.weight), projection.bias)
        self.train(module.training)

    @property
    def in_proj_weight(self) -> Tensor | None:
        """The weights of query, key and value, [3 * embed_dim, embed_dim]; None where their inputs differ in size."""
        layers = (self.query, self.key, self.value)
        return torch.cat([layer.weight for layer in layers]) if self._has_one_size else None

    @property
    def q_proj_weight(self) -> Tensor | None:
        """The weight of the query, [embed_dim, embed_dim]; None where their inputs are of one size."""
        return None if self._has_one_size else self.query.weight

    @property
    def k_proj_weight(self) -> Tensor | None:
        """The weight of the key, [embed_dim, kdim]; None where their inputs are of one size."""
        return None if self._has_one_size else self.key.weight

    @property
    def v_proj_weight(self) -> Tensor | None:
        """The weight of the value, [embed_dim, vdim]; None where their inputs are of one size."""
        return None if self._has_one_size else self.value.weight

    @property
    def in_proj_bias(self) -> Tensor | None:
        """The biases of query, key and value, [3 * embed_dim]; None where they have none."""
        biases = tuple(layer.bias for layer in (self.query, self.key, self.value) if layer.bias is not None)
        return torch.cat(biases) if biases else None

    @property
    def _has_one_size(self) -> bool:
        return self.kdim == self.vdim == self.embed_dim

    @staticmethod
    def replaces(module: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
        """Return whether a module computes what this class computes; one with `add_bias_kv` does not."""
        plain = type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn
        if not plain or module._forward_hooks or module._forward_pre_hooks:
            return False
        # One that is pruned or parametrized is told as such a layer.
        return {"weight", "bias"} <= set(cast(nn.Linear, module.out_proj)._parameters)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `nn.MultiheadAttention` returns of the same arguments.

        Args:
            query: [batch, queries, channels], or [queries, batch, channels] unless `batch_first`; without the batch
                dimension too. `key` and `value` likewise.
            key_padding_mask: [batch, keys], True or minus infinity where a key is left out.
            attn_mask: [queries, keys] or [batch * heads, queries, keys], likewise.
            is_causal: no more than a hint; `attn_mask` says what is left out.
        """
        batched = query.dim() == 3
        if batched and not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        elif not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        heads = (self._heads(x) for x in (self.query(query), self.key(key), self.value(value)))
        queries, keys, values = heads
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
        if attn_mask is not None:
            per_head = (
                attn_mask.reshape(-1, self.num_heads, *attn_mask.shape[-2:]) if attn_mask.dim() == 3 else attn_mask
            )
            scores = scores + _added(per_head, scores)
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask.reshape(len(scores), 1, 1, -1), scores)
        weights = nn.functional.dropout(scores.softmax(-1), self.dropout, self.training)
        output = self.out_proj((weights @ values).transpose(1, 2).flatten(2))
        if need_weights and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            output, weights = output.squeeze(0), weights.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        return output, weights if need_weights else None

    def _heads(self, x: Tensor) -> Tensor:
        """Return [batch, heads, tokens, channels of a head] of [batch, tokens, channels]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _thirds_of(parameter: nn.Parameter, thirds: Thirds) -> list[nn.Parameter]:
    """Return three parameters of what one holds for query, key and value; those of a frozen one are frozen."""
    if parameter not in thirds:
        parts = parameter.detach().chunk(3)
        thirds[parameter] = [nn.Parameter(part.clone(), parameter.requires_grad) for part in parts]
    return thirds[parameter]


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """Return a mask as what is added to the scores."""
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, -torch.inf)
