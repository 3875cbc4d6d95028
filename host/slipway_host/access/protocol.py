"""What the two sides tell each other of a change of access: JSON objects, as in protocol.py, and with its versions."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypedDict

    class Way(TypedDict, total=False):
        """A file that decides who can log in. To remove it, give its path, and None as content."""

        path: str
        content: str | None
        mode: str
        """Octal, as ``chmod`` takes it."""
        owned: bool
        """Whether it is the account's, not root's."""

    class Ways(TypedDict):
        """A change of access to a host: accounts, sshd, firewall."""

        account: str | None
        """The user who must exist and be able to log in; None for no user of ours."""
        files: list[Way]
        drop_in: str
        """Path of sshd's file of ours."""
        options: list[list[str]]
        """Keyword and value of each option that sshd must have, as ``sshd -T`` prints them."""
        host_keys: dict[str, int]
        """Kind of key → its least number of bits."""
        moduli: str | None
        """Path of a file for the package's long moduli; None keeps the file as it is."""
        ssh: bool
        """Whether sshd is to read its configuration."""
        firewall: Literal["load", "remove"] | None

    class Armed(TypedDict):
        """A change of access was made; unless it is confirmed in time, it is reverted."""

        token: str
        """What confirms it."""
        seconds: int
        """Until it is reverted."""
        said: list[str]
        """Messages for people, such as which program had sshd's port."""

    class Kept(TypedDict):
        """A file that can be restored."""

        content: str
        """In base64."""
        mode: int
        uid: int
        gid: int

    class Before(TypedDict, total=False):
        """The state before an unconfirmed change of access: the content of pending.json."""

        format: int
        files: dict[str, Kept | None]
        """Path → file; None where there was none."""
        firewall: bool
        """Whether the change concerns the firewall."""
        table: str | None
        """Its rules, as nft lists them; None where there were none."""
        ssh: bool
        """Whether sshd must read its configuration after they are restored."""
        token: str
