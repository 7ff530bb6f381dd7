"""What the classes of errors keep to, all of them."""

from errors import ProxyError


def family(base: type[ProxyError]) -> set[type[ProxyError]]:
    """A class and all that are made from it."""
    return {base}.union(*(family(kind) for kind in base.__subclasses__()))


def test_only_what_may_heal_is_called_a_server_error() -> None:
    """Some agents go by the type and repeat a 4xx that is called so."""
    kinds = family(ProxyError)
    assert len(kinds) > 15
    for kind in kinds:
        assert (kind.type == "server_error") == (kind.status >= 500), kind
