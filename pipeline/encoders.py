"""The encoder behind each index of a collection, checked to be the one that built it."""

from functools import partial

from ..indexes.collection import Collection
from ..models import load_encoder
from ..models.fingerprint import check_encoder
from .recipes import AnyEncoder


def encoder_of(collection: Collection, name: str) -> AnyEncoder:
    """Load the encoder that made the keys of index `name`, as the collection describes it.

    Raises Mismatch when what loads is not what the index was built with.
    """
    return checked(collection, name, load_encoder(collection.encoders[name].settings))


def checked(collection: Collection, name: str, encoder: AnyEncoder) -> AnyEncoder:
    """The encoder itself, if its fingerprint or its canary vectors fit the index `name`."""
    # what was learned over an encoder knows which indexes it may ask
    check = getattr(encoder, "check_index", partial(check_encoder, encoder))
    check(collection.encoders[name], collection.canaries.get(name), name=name)
    return encoder
