"""Settings and secrets: what is wrong is named, and no key is ever shown."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from aitems_bridge import config
from aitems_bridge.errors import Misconfigured
from aitems_bridge.ncp import Keys
from aitems_bridge.record import DAY, MINUTE, SECOND, Numbers

ARN = "arn:aws:secretsmanager:ap-northeast-2:123456789012:secret:keys-AbCdEf"


@dataclass
class Vault:
    """Secrets Manager with memory: one secret, and how often it was asked for."""

    text: str = json.dumps({"access_key": "AK_TEST", "secret_key": "SK_TEST"})
    fault: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def get_secret_value(self, **arguments: str) -> dict[str, str]:
        """Give the secret, or fail."""
        self.asked.append(arguments["SecretId"])
        if self.fault:
            raise self.fault
        return {"SecretString": self.text}


@dataclass
class Ticks:
    """A monotonic clock that stands until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def vault() -> Vault:
    """Give a vault that holds usable keys."""
    return Vault()


@pytest.fixture
def ticks() -> Ticks:
    """Give a clock that stands."""
    return Ticks()


@pytest.fixture
def secret(vault: Vault, ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> config.Secret:
    """Give a secret over the vault's cache."""
    monkeypatch.setenv("KEYS_SECRET_ARN", ARN)
    return config.Secret("KEYS_SECRET_ARN", monotonic=ticks, provider=config.Vault(vault))


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_setting_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads which variable it is, and an empty one is a missing one."""
    monkeypatch.delenv("LEDGER_TABLE", raising=False)
    if value is not None:
        monkeypatch.setenv("LEDGER_TABLE", value)
    with pytest.raises(Misconfigured, match="LEDGER_TABLE"):
        config.setting("LEDGER_TABLE")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://aitems.apigw.ntruss.com", "https://aitems.apigw.ntruss.com"),
        ("https://aitems.apigw.ntruss.com/", "https://aitems.apigw.ntruss.com"),
        ("https://proxy.example:8443", "https://proxy.example:8443"),
        ("http://127.0.0.1:4581", "http://127.0.0.1:4581"),
        ("http://localhost:4581", "http://localhost:4581"),
        ("http://[::1]:4581", "http://[::1]:4581"),
    ],
)
def test_base_urls_that_will_do(value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An https origin, or http on this very machine."""
    monkeypatch.setenv("AITEMS_BASE_URL", value)
    assert config.aitems_base_url() == expected


@pytest.mark.parametrize(
    "value",
    [
        "http://aitems.apigw.ntruss.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://127.0.0.1@example.com",
        "https://user:password@aitems.apigw.ntruss.com",
        "https://aitems.apigw.ntruss.com/api/v1",
        "https://aitems.apigw.ntruss.com?",
        "https://aitems.apigw.ntruss.com?x=1",
        "https://aitems.apigw.ntruss.com#",
        "https://aitems.apigw.ntruss.com#x",
        "https://aitems.apigw.ntruss.com\n",
        " https://aitems.apigw.ntruss.com",
        "https://two words",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "https://",
        "https:///",
        "ftp://aitems.apigw.ntruss.com",
        "aitems.apigw.ntruss.com",
        "//aitems.apigw.ntruss.com",
    ],
)
def test_base_urls_that_will_not_do(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and requests leave over TLS only, and the address is an origin and nothing more."""
    monkeypatch.setenv("AITEMS_BASE_URL", value)
    with pytest.raises(Misconfigured, match="AITEMS_BASE_URL must be an https origin"):
        config.aitems_base_url()


@pytest.mark.parametrize(
    ("value", "minutes"),
    [("", 540), ("+09:00", 540), ("+00:00", 0), ("-00:30", -30), ("-11:00", -660), ("+14:00", 840)],
)
def test_offsets(value: str, minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Korean time unless something else is set."""
    monkeypatch.setenv("AITEMS_UTC_OFFSET", value)
    assert config.aitems_utc_offset() == minutes * MINUTE


@pytest.mark.parametrize("value", ["9", "+9:00", "+0900", "KST", "09:00", "+09:00 ", "+09:00\n", "Z"])
def test_what_is_no_offset(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An offset that is not understood is not guessed: ages would be judged by it."""
    monkeypatch.setenv("AITEMS_UTC_OFFSET", value)
    with pytest.raises(Misconfigured, match="AITEMS_UTC_OFFSET"):
        config.aitems_utc_offset()


def test_the_numbers_are_the_templates_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the template sets is taken, fractions too; what it does not set is the default."""
    for name in ("LEASE_MARGIN_SECONDS", "QUIET_SECONDS", "BACKOFF_BASE_SECONDS", "GIVE_UP_AFTER_MINUTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETENTION_DAYS", "")
    assert config.numbers() == Numbers()
    monkeypatch.setenv("QUIET_SECONDS", "2.5")
    monkeypatch.setenv("LEASE_MARGIN_SECONDS", "1")
    monkeypatch.setenv("BACKOFF_BASE_SECONDS", "0.1")
    monkeypatch.setenv("GIVE_UP_AFTER_MINUTES", "7")
    monkeypatch.setenv("RETENTION_DAYS", "1")
    expected = Numbers(quiet=2500, lease_margin=SECOND, backoff_base=100, give_up=7 * MINUTE, retention=DAY)
    assert config.numbers() == expected


@pytest.mark.parametrize("value", ["soon", "1,5", "nan", "inf", "-inf"])
def test_what_is_no_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is none is named, not guessed."""
    monkeypatch.setenv("QUIET_SECONDS", value)
    with pytest.raises(Misconfigured, match="QUIET_SECONDS"):
        config.numbers()


# --- secrets ------------------------------------------------------------------------------------------------------


def test_a_secret_is_read_once_and_kept(secret: config.Secret, vault: Vault) -> None:
    """It says whether it was read just now: whoever holds stale keys may then ask for newer ones."""
    assert secret.text() == (vault.text, True)
    assert secret.text() == (vault.text, False)
    assert vault.asked == [ARN]


def test_an_early_refresh_is_granted_once_in_thirty_seconds(secret: config.Secret, vault: Vault, ticks: Ticks) -> None:
    """Nobody outside can make us read it at will: within 30 s the kept text is given, and said to be kept."""
    old, new = vault.text, "new"
    secret.text()
    vault.text = new
    assert secret.text() == (old, False)
    assert secret.text(early=True) == (new, True)
    vault.text = "newer"
    ticks.now += 29.9
    assert secret.text(early=True) == (new, False)
    ticks.now += 0.1
    assert secret.text(early=True) == ("newer", True)
    assert secret.text() == ("newer", False)
    assert len(vault.asked) == 3


def test_a_refresh_that_fails_counts_as_one(secret: config.Secret, vault: Vault) -> None:
    """While Secrets Manager is down, strangers cannot have it asked again and again; what was read last holds."""
    secret.text()
    vault.fault = TimeoutError()
    assert secret.text(early=True) == (vault.text, False)
    assert secret.text(early=True) == (vault.text, False)
    assert len(vault.asked) == 2


def test_a_secret_that_cannot_be_read_names_its_variable(secret: config.Secret, vault: Vault) -> None:
    """The operator reads which secret it is and why."""
    vault.fault = PermissionError("the whole of it")
    with pytest.raises(Misconfigured, match=r"KEYS_SECRET_ARN .*\(PermissionError\)") as error:
        secret.text()
    assert "the whole of it" not in str(error.value)


def test_usable_keys(secret: config.Secret) -> None:
    """The keys, and whether they were read just now."""
    keys = config.KeysSecret(secret)
    assert keys(False) == (Keys("AK_TEST", "SK_TEST"), True)
    assert keys(False) == (Keys("AK_TEST", "SK_TEST"), False)
    assert keys(True) == (Keys("AK_TEST", "SK_TEST"), True)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ('{"access_key": "AK_TEST", "secret_key": "SK_TEST"', "must be"),
        ("SK_TEST", "must be"),
        ('"SK_TEST"', "must be"),
        ('["AK_TEST", "SK_TEST"]', "must be"),
        ('{"access_key": "AK_TEST"}', "must be"),
        ('{"SK_TEST": "", "access_key": "AK_TEST", "secret_key": "SK_TEST"}', "must be"),
        ('{"access_key": "AK_TEST", "secret_key": ["SK_TEST"]}', "must be strings"),
        ('{"access_key": 1, "secret_key": "SK_TEST"}', "must be strings"),
        ('{"access_key": "", "secret_key": ""}', "not filled in"),
        ('{"access_key": "", "secret_key": "SK_TEST"}', "not filled in"),
        ('{"access_key": "AK_TEST", "secret_key": ""}', "not filled in"),
    ],
)
def test_unusable_keys_are_told_without_showing_them(
    document: str, told: str, secret: config.Secret, vault: Vault
) -> None:
    """The message says what to put there; neither it nor anything it was raised from holds what stands there now."""
    vault.text = document
    with pytest.raises(Misconfigured, match=told) as error:
        config.KeysSecret(secret)(False)
    assert "SK_TEST" not in "".join(_whole_chain(error.value))


def test_a_secret_that_is_misnested_is_misconfigured_too(secret: config.Secret, vault: Vault) -> None:
    """However it is broken, it is the operator's to mend."""
    vault.text = "[" * 60_000
    with pytest.raises(Misconfigured):
        config.KeysSecret(secret)(False)


def _whole_chain(error: BaseException | None) -> list[Any]:
    return [] if error is None else [repr(error), *_whole_chain(error.__cause__ or error.__context__)]


class Expired(config.Vault):
    """A cache in which everything has expired."""

    def has_not_expired_in_cache(self, key: tuple[str, object, object]) -> bool:
        """See `Vault.has_not_expired_in_cache`."""
        del key
        return False


def test_an_outage_is_not_waited_for_by_each_who_asks(
    vault: Vault, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Secrets Manager is away the last text is given at once, and it is asked again half a minute later."""
    monkeypatch.setenv("KEYS_SECRET_ARN", ARN)
    secret = config.Secret("KEYS_SECRET_ARN", monotonic=ticks, provider=Expired(vault))
    secret.text()
    vault.fault = TimeoutError()
    for _ in range(5):
        assert secret.text() == (vault.text, False)
    assert len(vault.asked) == 2
    ticks.now += config.EARLY_REFRESH
    vault.fault = None
    assert secret.text() == (vault.text, True)


def test_keys_with_characters_that_no_key_has(secret: config.Secret, vault: Vault) -> None:
    """Curly quotes come along when keys are copied: the operator is told, without the key."""
    vault.text = json.dumps({"access_key": "“AK”", "secret_key": "SK"})
    with pytest.raises(Misconfigured, match="quotes") as error:
        config.KeysSecret(secret)(False)
    assert "AK" not in str(error.value)
