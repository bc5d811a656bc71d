"""A backup's options and a caller's together, as pure functions."""

from hypothesis import given
from hypothesis import strategies as st

from bastide.backup.config_text import parse_config_text
from bastide.base.units import KIB, format_size
from bastide.model.container import ContainerOptions
from bastide.operations.ct.restore_config import merge
from bastide.operations.volumes import parse_request
from framework.ct_archives import CONFIG


@given(st.integers(min_value=1, max_value=2**40).map(lambda size: size * KIB))
def test_a_volume_is_never_smaller_than_it_was(size: int) -> None:
    text = CONFIG.replace("size=64M", f"size={format_size(size)}")
    rootfs = merge(parse_config_text(text, "lxc"), ContainerOptions(), storage="local").options.rootfs
    assert rootfs is not None
    assert parse_request(rootfs.volume) == ("local", size)


@given(st.text(max_size=300), st.booleans())
def test_nothing_of_a_stranger_reaches_the_host(text: str, unique: bool) -> None:
    """Whatever else a configuration holds, the volumes are new ones and root's options are not there."""
    try:
        saved = parse_config_text(f"{CONFIG}{text}\ndev0: /dev/kvm\nhookscript: local:snippets/x\n", "lxc")
        options = merge(saved, ContainerOptions(), storage="here", unique=unique, restricted=True).options
    except Exception as error:
        assert type(error).__name__ in ("InvalidParameter", "PermissionDenied")  # noqa: PT017
        return
    assert (options.dev, options.hookscript) == ({}, None)
    volumes = [options.rootfs, *options.mp.values()]
    assert all(mount is not None and parse_request(mount.volume) is not None for mount in volumes)
