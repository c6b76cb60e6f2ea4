#!/usr/bin/env python3
"""A small chat client for Switchboard, in plain Python 3, to read and to start from.

    SWITCHBOARD_PASSWORD=... python3 client.py NAME HOST:PORT [HOST:PORT ...]

It registers the name if it is free, logs in, and from then on takes lines from standard input:

    8 hello             sends to the user with the id 8
    @bob hello          sends to the user of that name
    #3 hello            sends to the conversation 3

What arrives is printed. When the connection breaks it connects again, to the next address, goes on where it was and
sends again, with the same keys, what has no answer yet: nothing is missing, nothing is there twice. When the input
ends it waits for the last answers and ends too. docs/PROTOCOL.md explains every frame.
"""

import collections
import json
import os
import random
import selectors
import socket
import sys
import time
import uuid

PING_AFTER = 30.0  # Seconds without a word from us.
DEAD_AFTER = 10.0  # Seconds without an answer to a ping.
CONNECT_WITHIN = 5.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0


class Over(Exception):
    """The session has ended for good."""


class Lost(Exception):
    """The connection is gone; another one may do."""

    def __init__(self, why, wait=None):
        super().__init__(why)
        self.wait = wait


class Conversation:
    """How far this client has got in one conversation."""

    def __init__(self, position):
        self.position = position  # Everything up to here is had, and named in `since`.
        self.confirmed = 0  # The last seq in a `received` of this connection.
        self.own = set()  # Seqs of own messages above the position.
        self.until = 0  # Pages up to here are still to come.
        self.live = []  # What came live meanwhile, above `until`.

    def take(self, seq):
        """Counts a message; false if it is had."""
        is_new = seq > self.position and seq not in self.own
        self.raise_to(seq)
        return is_new

    def raise_to(self, seq):
        self.position = max(self.position, seq)
        self.own = {own for own in self.own if own > self.position}
        while self.position + 1 in self.own:
            self.position += 1
            self.own.remove(self.position)


class Client:
    def __init__(self, name, password, addresses):
        self.name, self.password, self.addresses = name, password, collections.deque(addresses)
        self.token = None
        self.user = None
        self.sock = None
        self.conversations = {}
        self.unanswered = collections.OrderedDict()  # By key: the sends without a `sent`, in order.
        self.looked_up = {}  # By request id: (name, body) of sends that wait for a user's id.
        self.prefix = uuid.uuid4().hex  # Keys are unique for ever, so each start has a prefix of its own.
        self.count = 0
        self.input_ended = False
        self.selector = selectors.DefaultSelector()
        self.typed = b""
        self.retries = []  # (when, key) of sends that the server wants later.

    # The connection.

    def run(self):
        self.watch_input()
        self.failures = 0
        while not self.is_done():
            try:
                self.connect()
                self.talk()
            except (OSError, Lost) as error:
                self.failures += 1
                wait = getattr(error, "wait", None)
                if wait is None:
                    wait = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self.failures, 10)))
                say(f"connection lost ({error}), again in {wait:.1f} s")
                self.disconnect()
                self.addresses.rotate(-1)
                time.sleep(wait)
        self.disconnect()

    def connect(self):
        host, port = self.addresses[0].rsplit(":", 1)
        self.sock = socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.said_at = time.monotonic()
        self.pinged_at = None
        self.is_welcome = False  # Requests may be written.
        self.is_live = False  # What was missed has come.
        self.log_in()

    def log_in(self):
        if self.user is None:
            self.write({"type": "register", "id": "register", "name": self.name, "password": self.password})
        login = {"type": "login", "id": "login"}
        if self.token:
            login["token"] = self.token
        else:
            login.update(name=self.name, password=self.password)
        since = {str(number): conversation.position for number, conversation in self.conversations.items()}
        if since:
            login["since"] = since
        self.write(login)
        for conversation in self.conversations.values():
            conversation.until, conversation.live, conversation.confirmed = 0, [], 0

    def disconnect(self):
        if self.sock:
            self.sock.close()
        self.sock, self.is_welcome = None, False

    def write(self, frame):
        # sendall() waits while the server does not read, which is short: this client sends no more than a person types.
        self.sock.sendall(json.dumps(frame, ensure_ascii=False).encode() + b"\n")
        self.said_at = time.monotonic()

    def talk(self):
        self.selector.register(self.sock, selectors.EVENT_READ)
        try:
            while not self.is_done():
                for key, _ in self.selector.select(timeout=0.5):
                    if key.fileobj is self.sock:
                        self.read()
                    else:
                        self.read_input()
                self.keep_alive()
                self.retry()
        finally:
            self.selector.unregister(self.sock)

    def read(self):
        chunk = self.sock.recv(65536)
        if not chunk:
            raise Lost("closed by the server")
        *lines, self.received = (self.received + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                self.frame(json.loads(line))
        self.confirm()

    def keep_alive(self):
        now = time.monotonic()
        if self.pinged_at and now - self.pinged_at > DEAD_AFTER:
            raise Lost("no answer to a ping")
        if not self.pinged_at and now - self.said_at > PING_AFTER:
            self.pinged_at = now
            self.write({"type": "ping"})

    # What the server says.

    def frame(self, frame):
        # An event of a type that this client does not know is ignored.
        handler = getattr(self, "on_" + frame["type"], None)
        if handler:
            handler(frame)

    def on_welcome(self, frame):
        self.user, self.token = frame["user"], frame["token"]
        for shown in frame["conversations"]:
            self.on_conversation(shown)
            # Only after a restored backup is the head below what we have; what we had above it is gone.
            conversation = self.conversations[shown["conversation"]]
            conversation.position = min(conversation.position, shown["head"])
        say(f"logged in as {frame['name']}, user {self.user}, on {frame['node']}")
        self.is_welcome, self.failures = True, 0
        # In the first order and with the first keys; it does not matter which of them were stored.
        for send in self.unanswered.values():
            self.write(send)
        for number, (name, _) in self.looked_up.items():
            self.write({"type": "find_user", "id": number, "name": name})

    def on_conversation(self, shown):
        self.conversations.setdefault(shown["conversation"], Conversation(shown["delivered"]))

    def on_caught_up(self, frame):
        self.is_live = True
        for more in frame["more"]:
            conversation = self.conversation(more["conversation"])
            conversation.until = more["until"]
            self.ask_page(more["conversation"])

    def on_message(self, message):
        conversation = self.conversation(message["conversation"])
        if self.is_live and conversation.until:
            conversation.live.append(message)
        else:
            self.show(conversation, message)

    def on_history(self, page):
        conversation = self.conversation(page["conversation"])
        for message in page["messages"]:
            if message["seq"] <= conversation.until:
                self.show(conversation, message)
        if page["more"] and conversation.position < conversation.until:
            self.ask_page(page["conversation"])
            return
        conversation.raise_to(conversation.until)
        live, conversation.live, conversation.until = conversation.live, [], 0
        for message in live:
            self.show(conversation, message)

    def on_sent(self, sent):
        if self.unanswered.pop(sent["key"], None):
            say(f"sent #{sent['conversation']} {sent['seq']}")
        conversation = self.conversation(sent["conversation"])
        if sent["seq"] > conversation.position:
            conversation.own.add(sent["seq"])
            conversation.raise_to(conversation.position)

    def on_user(self, found):
        _, body = self.looked_up.pop(found["id"], (None, None))
        if body is not None:
            self.send({"to": found["user"]}, body)

    def on_pong(self, _):
        self.pinged_at = None

    def on_error(self, error):
        what, code = error.get("id"), error["code"]
        if what == "register":
            if code != "name_taken":
                raise Over(f"cannot register: {error['message']}")
        elif what == "login":
            if code == "bad_credentials" and self.token:
                self.token = None
                raise Lost("the token is good no more", 0.0)
            if "retry_ms" in error:
                raise Lost(error["message"], error["retry_ms"] / 1000)
            raise Over(f"cannot log in: {error['message']}")
        elif "key" in error and "retry_ms" in error:
            self.retries.append((time.monotonic() + error["retry_ms"] / 1000, error["key"]))
        else:
            self.unanswered.pop(error.get("key"), None)
            name, _ = self.looked_up.pop(what, (None, None))
            say(f"failed: {name + ': ' if name else ''}{error['message']}")

    def on_closing(self, closing):
        if not closing["reconnect"]:
            raise Over(f"the server has ended the session: {closing['reason']}")
        if closing["reason"] == "log_reset":
            self.conversations.clear()
        raise Lost(closing["reason"], closing["after_ms"] / 1000)

    def on_degraded(self, _):
        say("the server is degraded, messages may take a second")

    def on_restored(self, _):
        say("the server is well again")

    # Messages.

    def conversation(self, number):
        return self.conversations.setdefault(number, Conversation(0))

    def show(self, conversation, message):
        if conversation.take(message["seq"]) and not self.is_own(message):
            text = message["body"] if message["kind"] == "text" else f"({message['kind']})"
            say(f"#{message['conversation']} {message['seq']} {message['name']}: {text}")

    def is_own(self, message):
        return message["from"] == self.user and message["key"].startswith(self.prefix)

    def ask_page(self, number):
        after = self.conversations[number].position
        self.write({"type": "history", "id": "page", "conversation": number, "after": after, "limit": 200})

    def confirm(self):
        for number, conversation in self.conversations.items():
            if self.is_live and conversation.position > conversation.confirmed:
                conversation.confirmed = conversation.position
                self.write({"type": "received", "conversation": number, "seq": conversation.position})

    def send(self, target, body):
        self.count += 1
        key = f"{self.prefix}-{self.count}"
        self.unanswered[key] = {"type": "send", "key": key, **target, "body": body}
        self.write_if_connected(self.unanswered[key])

    def write_if_connected(self, frame):
        # What cannot be written now is written after the next `welcome`.
        if self.is_welcome:
            self.write(frame)

    def retry(self):
        now = time.monotonic()
        due, self.retries = [r for r in self.retries if r[0] <= now], [r for r in self.retries if r[0] > now]
        for _, key in due:
            if key in self.unanswered and self.is_welcome:
                self.write(self.unanswered[key])

    # What the user says.

    def watch_input(self):
        try:
            self.selector.register(sys.stdin, selectors.EVENT_READ)
        except (PermissionError, ValueError):
            raise Over("standard input must be a terminal or a pipe")

    def read_input(self):
        chunk = os.read(sys.stdin.fileno(), 65536)
        *lines, self.typed = (self.typed + chunk).split(b"\n")
        if not chunk:
            self.input_ended = True
            self.selector.unregister(sys.stdin)
        for line in lines:
            self.command(line.decode(errors="replace").strip())

    def command(self, line):
        if not line:
            return
        target, _, body = line.partition(" ")
        if target.startswith("#") and target[1:].isdigit():
            self.send({"conversation": int(target[1:])}, body)
        elif target.isdigit():
            self.send({"to": int(target)}, body)
        elif target.startswith("@"):
            self.count += 1
            self.looked_up[f"user-{self.count}"] = (target[1:], body)
            self.write_if_connected({"type": "find_user", "id": f"user-{self.count}", "name": target[1:]})
        else:
            say("write `8 hello` (to a user's id), `@bob hello` or `#3 hello` (to a conversation)")

    def is_done(self):
        return self.input_ended and not self.unanswered and not self.looked_up


def say(line):
    print(line, flush=True)


def main():
    if len(sys.argv) < 3 or not all(address.rpartition(":")[2].isdigit() for address in sys.argv[2:]):
        sys.exit(__doc__)
    password = os.environ.get("SWITCHBOARD_PASSWORD")
    if not password:
        sys.exit("set SWITCHBOARD_PASSWORD to the password, 8 bytes or more")
    try:
        Client(sys.argv[1], password, sys.argv[2:]).run()
    except Over as over:
        sys.exit(str(over))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
