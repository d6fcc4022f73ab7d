"""Settings from the environment and the command line."""

from pathlib import Path

import pytest

from studio.errors import ConfigError
from studio.settings import ROOT, Settings, from_environment


def test_the_default_is_this_machine_alone():
    settings = from_environment({})
    assert settings == Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 7860)
    assert (settings.data_dir, settings.saves_dir) == (ROOT / "data", ROOT / "saves")


def test_the_command_line_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {
        "SEEDBED_PORT": "9000",
        "SEEDBED_DATA": "my data",
        "SEEDBED_SAVES": "~/runs",
        "SEEDBED_AUTH": "me:a:b",
    }
    settings = from_environment(environment, port=9001, host=None)
    assert settings.port == 9001
    assert settings.data_dir == tmp_path / "my data"
    assert settings.saves_dir == Path.home() / "runs"
    assert settings.auth == ("me", "a:b")


@pytest.mark.parametrize("name", ["SEEDBED_HOST", "SEEDBED_PORT", "SEEDBED_DATA", "SEEDBED_SAVES", "SEEDBED_AUTH"])
def test_an_empty_variable_is_not_set(name):
    assert from_environment({name: ""}) == Settings()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80 80", "²", "٣", "7" * 5000, "1e3"])
def test_a_port_that_is_none_is_named(port):
    with pytest.raises(ConfigError, match=r"SEEDBED_PORT: .* is not a port"):
        from_environment({"SEEDBED_PORT": port})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.example"])
def test_an_open_address_needs_a_login(host):
    with pytest.raises(ConfigError, match=r"host: .*SEEDBED_AUTH"):
        from_environment({"SEEDBED_HOST": host})
    assert from_environment({"SEEDBED_HOST": host, "SEEDBED_AUTH": "me:secret"}).host == host
    assert from_environment({}, host=host, share_without_login=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_none(host):
    assert from_environment({"SEEDBED_HOST": host}).auth is None


@pytest.mark.parametrize("text", ["me", ":", "me:", ":secret"])
def test_half_a_login_is_refused_without_being_shown(text):
    with pytest.raises(ConfigError, match="user:password") as caught:
        from_environment({"SEEDBED_AUTH": text})
    assert "secret" not in str(caught.value)


def test_the_password_is_not_printed():
    assert "secret" not in repr(Settings(auth=("me", "secret")))
