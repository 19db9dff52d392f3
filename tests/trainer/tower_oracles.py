"""The user towers for one user at a time, in loops, from the formulas of docs/model.md.

They read a layer's weights and nothing else of it. `interact` is an interaction of fields,
`embed_user` a whole tower.
"""

import itertools

import numpy as np

from trainer.towers.field_interactions.attention_crossing import AttentionCrossing
from trainer.towers.field_interactions.attentional_fm import AttentionalFM
from trainer.towers.field_interactions.concatenation import Concatenation
from trainer.towers.field_interactions.cross_network import CrossNetwork
from trainer.towers.field_interactions.neural_fm import NeuralFM
from trainer.towers.field_interactions.self_attention import SelfAttention


def softmax(x):
    exponentials = np.exp(x - np.max(x))
    return exponentials / exponentials.sum()


def relu(x):
    return np.maximum(x, 0)


def normalised(layer, x):
    """Returns one row after a trained normalisation."""
    if "BatchNorm" in type(layer).__name__:
        gamma, beta, mean, variance = layer.get_weights()
    else:
        (gamma, beta), mean, variance = layer.get_weights(), x.mean(), x.var()
    return gamma * (x - mean) / np.sqrt(variance + 1e-6) + beta


def attention_score(layer, queries, vector, head):
    """Returns q_h . relu(W_h t + b)."""
    kernel, bias = layer.get_weights()
    return queries[head] @ relu(vector @ kernel[head] + bias[0])


def interact(layer, fields, mask):
    """Computes an interaction of one user's fields [K, H, E]; `mask` says which are present.

    Returns:
      Features of the interaction, and its attention weights by name.
    """
    present = [k for k, is_there in enumerate(mask) if is_there]
    return _INTERACTIONS[type(layer)](layer, np.asarray(fields, float), present)


def _vectors(fields, present):
    return [f.reshape(-1) if k in present else np.zeros(f.size) for k, f in enumerate(fields)]


def _utpm(layer, fields, present):
    num_fields, heads, size = fields.shape
    weights, x = np.zeros((num_fields, heads)), []
    for h in range(heads):
        if present:
            scores = np.zeros(len(present))
            if layer.inter_attention is not None:
                queries = layer.queries.numpy()
                for i, k in enumerate(present):
                    scores[i] = attention_score(layer.inter_attention, queries, fields[k, h], h)
            weights[present, h] = softmax(scores)
        x.append(sum((weights[k, h] * fields[k, h] for k in present), np.zeros(size)))
    x = np.concatenate(x)
    latent, linear = layer.cross.latent.numpy(), layer.cross.linear.numpy()
    crossed = [
        latent[i] @ latent[j] * x[i] * x[j] for i, j in itertools.combinations(range(len(x)), 2)
    ]
    z = [
        normalised(layer.cross._linear_norm, linear * x),
        normalised(layer.cross._cross_norm, np.array(crossed)),
    ]
    return np.concatenate(z), {"fields": weights}


def _youtube_dnn(layer, fields, present):
    return normalised(layer._norm, np.concatenate(_vectors(fields, present))), {}


def _first_order(layer, vectors):
    return sum(w * e for w, e in zip(layer.first_order.kernel.numpy(), vectors, strict=True))


def _nfm(layer, fields, present):
    vectors = _vectors(fields, present)
    pairs = np.zeros(len(vectors[0]))
    for i, j in itertools.combinations(range(len(vectors)), 2):
        pairs += vectors[i] * vectors[j]
    linear = normalised(layer._linear_norm, _first_order(layer, vectors))
    return np.concatenate([linear, normalised(layer._pair_norm, pairs)]), {}


def _afm(layer, fields, present):
    vectors = _vectors(fields, present)
    kernel, bias, query = (v.numpy() for v in (layer.kernel, layer.bias, layer.query))
    all_pairs = list(itertools.combinations(range(len(vectors)), 2))
    pairs = list(itertools.combinations(present, 2))
    weights, pooled = np.zeros(len(all_pairs)), np.zeros(len(vectors[0]))
    if pairs:
        products = [vectors[i] * vectors[j] for i, j in pairs]
        attention = softmax([query @ relu(product @ kernel + bias) for product in products])
        for pair, a, product in zip(pairs, attention, products, strict=True):
            weights[all_pairs.index(pair)] = a
            pooled += a * product
    linear = normalised(layer._linear_norm, _first_order(layer, vectors))
    z = np.concatenate([linear, normalised(layer._pair_norm, pooled)])
    return z, {"field_pairs": weights}


def _dcn(layer, fields, present):
    start = np.concatenate(_vectors(fields, present))
    x = start
    for cross in layer.cross_layers:
        kernel, bias = cross.get_weights()
        x = start * (x @ kernel + bias) + x
    return normalised(layer._norm, x), {}


def _autoint(layer, fields, present):
    vectors = _vectors(fields, present)
    num_fields, size = len(vectors), layer.attention_dim
    weights = np.zeros((layer.num_layers, layer.num_heads, num_fields, num_fields))
    for number, projections in enumerate(layer.projections):
        kernels = {kind: dense.get_weights()[0] for kind, dense in projections.items()}
        after = [np.zeros(layer.num_heads * size) for _ in vectors]
        for m in present:
            heads = []
            for h in range(layer.num_heads):
                columns = slice(h * size, (h + 1) * size)
                query = vectors[m] @ kernels["query"][:, columns]
                keys = [vectors[k] @ kernels["key"][:, columns] for k in present]
                attention = softmax([query @ key / np.sqrt(size) for key in keys])
                weights[number, h, m, present] = attention
                values = [vectors[k] @ kernels["value"][:, columns] for k in present]
                heads.append(sum(a * v for a, v in zip(attention, values, strict=True)))
            after[m] = relu(np.concatenate(heads) + vectors[m] @ kernels["residual"])
        vectors = after
    z = normalised(layer._norm, np.concatenate(vectors))
    return z, {"field_self_attention": weights}


_INTERACTIONS = {
    AttentionCrossing: _utpm,
    AttentionalFM: _afm,
    Concatenation: _youtube_dnn,
    CrossNetwork: _dcn,
    NeuralFM: _nfm,
    SelfAttention: _autoint,
}


def make_fields(fields_layer, profile, histories, shared=None):
    """Computes the fields of one user.

    Args:
      fields_layer: Layer `UserFields`.
      profile: Ids by profile feature.
      histories: Weights by id, by domain.
      shared: Table of the tag tower, [num_tags, E], for domains that use it.

    Returns:
      Fields [K, H, E], which of them are present, and the attention within domains by field.
    """
    config = fields_layer.config
    tables = {name: table.variable.numpy() for name, table in fields_layer.embedding_tables.items()}
    heads = config.effective_heads
    fields, present, attention = [], [], {}
    for name, value in profile.items():
        fields.append(np.tile(tables[name][value], (heads, 1)))
        present.append(True)
    totals = []
    for domain in fields_layer.spec.domains:
        table = tables[domain.name]
        if shared is not None and domain.attribute == "tags":
            table = np.concatenate([shared, table])
        history = histories[domain.name]
        weights = np.array([w if config.use_domain_weights else 1.0 for w in history.values()])
        fields_of_domain = {domain.name: weights}
        if config.log_count_fields:
            is_weighted = config.use_domain_weights
            fields_of_domain[f"{domain.name}_log"] = np.log1p(weights) if is_weighted else weights
        for name, multiplicities in fields_of_domain.items():
            field = np.zeros((heads, config.embedding_dim))
            attention[name] = np.zeros((len(history), heads))
            for h in range(heads if history else 0):
                logits = np.log(multiplicities)
                if config.effective_pooling == "attention":
                    layer, queries = fields_layer.intra_attention[name], fields_layer.queries
                    for i, value in enumerate(history):
                        logits[i] += attention_score(layer, queries.numpy(), table[value], h)
                attention[name][:, h] = softmax(logits)
                for a, value in zip(attention[name][:, h], history, strict=True):
                    field[h] += a * table[value]
            fields.append(field)
            present.append(bool(history))
        if config.use_domain_totals:
            total = sum(weights) if config.use_domain_weights else float(bool(history))
            totals.append((np.log1p(total) / 5 * tables[f"{domain.name}_total"], bool(history)))
    for vector, is_there in totals:
        fields.append(np.tile(vector, (heads, 1)))
        present.append(is_there)
    return np.array(fields), np.array(present), attention


def _bag(bag, profile, histories):
    config = bag.config
    tables = {name: table.variable.numpy() for name, table in bag.embedding_tables.items()}
    hidden = bag.bias.numpy().astype(float)
    attention = {}
    for name, value in profile.items():
        hidden += tables[name][value]
    for domain in bag.spec.domains:
        history = histories[domain.name]
        weights = {v: w if config.use_domain_weights else 1.0 for v, w in history.items()}
        total = sum(weights.values())
        attention[domain.name] = np.array([[w / total] for w in weights.values()])
        for value, weight in weights.items():
            hidden += weight / total * tables[f"{domain.name}_shares"][value]
            if config.log_count_fields:
                hidden += np.log1p(weight) * tables[f"{domain.name}_log_counts"][value]
        if config.use_domain_totals:
            length = total if config.use_domain_weights else float(bool(history))
            hidden += np.log1p(length) / 5 * tables[f"{domain.name}_total"][0]
    return relu(hidden), attention


def embed_user(tower, profile, histories, shared=None):
    """Computes a whole tower for one user, in inference.

    Args:
      tower: Layer `UserTower`.
      profile: Ids by profile feature.
      histories: Weights by id, by domain.
      shared: Table of the tag tower, [num_tags, E], for domains that use it.

    Returns:
      The user's vector [U], and all attention weights by name.
    """
    if tower.bag is not None:
        hidden, attention = _bag(tower.bag, profile, histories)
    else:
        fields, present, attention = make_fields(tower.fields, profile, histories, shared)
        z, weights = interact(tower.interaction, fields, present)
        if tower.config.field_residual and tower.config.interaction != "youtube_dnn":
            own = np.concatenate(_vectors(fields, np.flatnonzero(present)))
            z = np.concatenate([z, normalised(tower.field_norm, own)])
        kernel, bias = tower.hidden.get_weights()
        hidden = relu(z @ kernel + bias)
        attention = {**attention, **weights}
    kernel, bias = tower.last.get_weights()
    return hidden @ kernel + bias, attention
