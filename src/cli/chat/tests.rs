//! Talks with a peer that speaks the wire on a real socket.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::console::Console;
use super::talk::{Input, Outcome, talk};
use super::voice::{Tongue, Voice};
use crate::client::tests::peer::{Peer, Wire, entry};
use crate::client::{ChatClient, ClientError};
use crate::protocol::Password;

const GREETING: [&str; 3] =
    ["* you are alice(7) on node-a", "[00:00Z] #3 <bob(8)> text 1", "* caught up; unread: #3 bob 1"];

/// A talk that has begun: the server has said what was missed, one message of bob's.
struct Scene {
    input: mpsc::Sender<Input>,
    printed: mpsc::Receiver<String>,
    console: Arc<Console>,
    talk: tokio::task::JoinHandle<Result<Outcome, ClientError>>,
    peer: Peer,
    wire: Wire,
}

impl Scene {
    async fn begin(tongue: Tongue) -> Self {
        let peer = Peer::start().await;
        let mut options = peer.options();
        options.received_every = Duration::from_millis(1);
        let conversations = json!([
            {"conversation": 3, "kind": "direct", "name": "bob", "peer": 8, "head": 1, "delivered": 0, "read": 0},
            {"conversation": 5, "kind": "group", "name": "tea", "head": 4, "delivered": 4, "read": 4},
        ]);
        let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(options), peer.welcome(conversations));
        let (client, events) = connected.unwrap();
        let (input, lines) = mpsc::channel(64);
        let (output, printed) = mpsc::channel(256);
        let console = Arc::new(Console::default());
        let voice = Voice::new(tongue, console.clone(), output);
        let talk = tokio::spawn(talk(client, events, lines, voice, Duration::from_secs(30)));
        wire.message(3, 1, 8, "k-1").await;
        wire.caught_up(json!([])).await;
        Self { input, printed, console, talk, peer, wire }
    }

    async fn text() -> Self {
        let mut scene = Self::begin(Tongue::Text).await;
        for line in GREETING {
            assert_eq!(scene.line().await, line);
        }
        scene
    }

    async fn put(&self, line: &str) {
        self.input.send(Input::Line(line.to_owned())).await.unwrap();
    }

    /// Puts a line in and waits for the request that comes of it.
    async fn asks(&mut self, line: &str, kind: &str) -> Value {
        self.put(line).await;
        self.wire.hear(kind).await
    }

    /// Answers a request.
    async fn answer(&mut self, request: &Value, mut frame: Value) {
        frame["id"] = request["id"].clone();
        self.wire.say(frame).await;
    }

    async fn ok(&mut self, line: &str, kind: &str) -> Value {
        let request = self.asks(line, kind).await;
        self.answer(&request, json!({"type": "ok"})).await;
        request
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(Duration::from_secs(30), self.printed.recv());
        line.await.expect("nothing is printed").expect("the talk is over")
    }

    /// Breaks the connection and returns how the client logs in again.
    async fn lose_the_connection(&mut self) -> Value {
        self.wire.hang_up().await;
        let (mut wire, login) = self.peer.welcome(json!([])).await;
        wire.caught_up(json!([])).await;
        self.wire = wire;
        login
    }

    /// Ends the input, lets the server listen to the end, and returns what else was printed.
    async fn end(self) -> (Result<Outcome, ClientError>, Vec<String>) {
        let Self { input, mut printed, talk, mut wire, .. } = self;
        drop(input);
        while wire.next().await.is_some() {}
        let mut lines = Vec::new();
        while let Some(line) = printed.recv().await {
            lines.push(line);
        }
        (talk.await.unwrap(), lines)
    }
}

fn closing(code: u16, reason: &str) -> Value {
    json!({"type": "closing", "code": code, "reason": reason, "reconnect": false, "after_ms": 0})
}

fn clean() -> Outcome {
    Outcome { failed: 0, unanswered: 0 }
}

#[tokio::test]
async fn messages_go_where_they_are_sent_and_the_end_waits_for_them() {
    let mut scene = Scene::text().await;
    scene.put("to whom?").await;
    assert_eq!(scene.line().await, "! say first where it goes: /to TARGET, or /msg NAME-OR-ID TEXT");
    let direct = scene.asks("/msg Bob hi", "send").await;
    assert_eq!((&direct["to"], &direct["body"]), (&json!(8), &json!("hi")));
    let classic = scene.asks("chat:8:hi: again", "send").await;
    assert_eq!((&classic["to"], &classic["body"]), (&json!(8), &json!("hi: again")));
    let grouped = scene.asks("groupchat:5:all", "send").await;
    assert_eq!((&grouped["conversation"], &grouped["body"]), (&json!(5), &json!("all")));
    scene.put("/to tea").await;
    assert_eq!(scene.line().await, "* plain lines go to tea now");
    let plain = scene.asks("//help", "send").await;
    assert_eq!((&plain["conversation"], &plain["body"]), (&json!(5), &json!("/help")));
    let said = scene.asks("/say help", "send").await;
    assert_eq!(said["body"], "help");
    for (send, conversation, seq) in [(&direct, 3, 2), (&classic, 3, 3), (&grouped, 5, 5), (&plain, 5, 6)] {
        scene.wire.sent(send, conversation, seq).await;
    }
    scene.answer(&said, json!({"type": "error", "code": "forbidden", "message": "not now"})).await;
    let (outcome, lines) = scene.end().await;
    assert_eq!(outcome.unwrap(), Outcome { failed: 2, unanswered: 0 });
    assert_eq!(lines, ["! a message was not sent: forbidden: not now"]);
}

#[tokio::test]
async fn a_name_that_is_not_known_is_looked_up_once() {
    let mut scene = Scene::text().await;
    let find = scene.asks("/msg carol hi", "find_user").await;
    assert_eq!(find["name"], "carol");
    scene.answer(&find, json!({"type": "user", "user": 9, "name": "Carol", "online": false})).await;
    let first = scene.wire.hear("send").await;
    assert_eq!(first["to"], 9);
    let second = scene.asks("/msg CAROL again", "send").await;
    assert_eq!(second["to"], 9);
    scene.wire.sent(&first, 6, 1).await;
    scene.wire.sent(&second, 6, 2).await;
    let find = scene.asks("/to dave", "find_user").await;
    scene.answer(&find, json!({"type": "error", "code": "not_found", "message": "there is no user dave"})).await;
    assert_eq!(scene.line().await, "! not_found: there is no user dave");
    let find = scene.asks("/find carol", "find_user").await;
    scene.answer(&find, json!({"type": "user", "user": 9, "name": "Carol", "online": true})).await;
    assert_eq!(scene.line().await, "* Carol(9) is online");
    scene.end().await.0.unwrap();
}

#[tokio::test]
async fn friends_are_asked_accepted_and_removed() {
    let mut scene = Scene::text().await;
    assert_eq!(scene.ok("/friend add carol", "friend_add").await["name"], "carol");
    assert_eq!(scene.line().await, "* carol is asked to be your friend, or is it now if they had asked");
    assert_eq!(scene.ok("addfriend:8", "friend_add").await["name"], "bob", "whose id is known");
    assert!(scene.line().await.starts_with("* bob is asked"));
    scene.put("addfriend:99").await;
    assert_eq!(scene.line().await, "! nobody with the id 99 has been seen here; use their name: /friend add NAME");
    scene.wire.say(json!({"type": "friend_request", "user": 10, "name": "dave"})).await;
    assert_eq!(scene.line().await, "* dave(10) wants to be your friend: /friend accept dave, or /friend remove dave");
    assert_eq!(scene.ok("/friend accept dave", "friend_accept").await["user"], 10);
    assert_eq!(scene.line().await, "* dave is your friend now");
    scene.wire.say(json!({"type": "presence", "user": 10, "online": true})).await;
    assert_eq!(scene.line().await, "* dave is online now");
    let request = scene.asks("/friends", "friends").await;
    let friends = json!([{"user": 10, "name": "dave", "online": true}]);
    scene.answer(&request, json!({"type": "friends", "friends": friends, "requests": []})).await;
    assert_eq!([scene.line().await, scene.line().await], ["dave(10), online", "* 1 friend"]);
    assert_eq!(scene.ok("/friend remove dave", "friend_remove").await["user"], 10);
    assert_eq!(scene.line().await, "* dave is no friend of yours");
    assert_eq!(scene.ok("/block dave", "block").await["user"], 10);
    assert_eq!(scene.line().await, "* dave cannot write to you any more");
    assert_eq!(scene.ok("/unblock dave", "unblock").await["user"], 10);
    assert_eq!(scene.line().await, "* dave can write to you again");
    assert_eq!(scene.end().await.0.unwrap(), Outcome { failed: 1, unanswered: 0 });
}

#[tokio::test]
async fn groups_are_made_found_joined_and_left() {
    let mut scene = Scene::text().await;
    let group = |id: u64, name: &str| {
        json!({"type": "group", "conversation": id, "name": name, "description": "",
        "head": 0, "members": 1})
    };
    let create = scene.asks("creategroup:go:every day", "group_create").await;
    assert_eq!((&create["name"], &create["description"]), (&json!("go"), &json!("every day")));
    scene.answer(&create, group(6, "go")).await;
    assert_eq!([scene.line().await, scene.line().await], ["* #6 go, 1 member", "* plain lines go to go now"]);

    let found = |ids: &[u64], name: &str| {
        let groups: Vec<_> =
            ids.iter().map(|id| json!({"conversation": id, "name": name, "description": "", "members": 2})).collect();
        json!({"type": "groups", "groups": groups})
    };
    let find = scene.asks("/join chess", "group_find").await;
    scene.answer(&find, found(&[8, 9], "Chess")).await;
    assert_eq!([scene.line().await, scene.line().await], ["#8 Chess, 2 members", "#9 Chess, 2 members"]);
    assert_eq!(scene.line().await, "! several groups fit chess: use the id, one of #8, #9");
    let find = scene.asks("/join che", "group_find").await;
    scene.answer(&find, found(&[8], "Chess")).await;
    let join = scene.wire.hear("group_join").await;
    assert_eq!(join["conversation"], 8);
    scene.answer(&join, group(8, "Chess")).await;
    scene.line().await;
    assert_eq!(scene.line().await, "* plain lines go to Chess now");
    let join = scene.asks("addgroup:9", "group_join").await;
    assert_eq!(join["conversation"], 9);
    scene.answer(&join, group(9, "Chess")).await;
    scene.line().await;
    scene.line().await;
    scene.put("/members chess").await;
    assert_eq!(scene.line().await, "! several groups fit chess: use the id, one of #8, #9");

    let members = scene.asks("/members", "group_members").await;
    assert_eq!(members["conversation"], 9);
    let alice = json!({"user": 7, "name": "alice", "role": "owner", "online": true, "delivered": 0, "read": 0});
    scene.answer(&members, json!({"type": "members", "conversation": 9, "members": [alice], "more": false})).await;
    assert_eq!(scene.line().await, "alice(7), owner, online, has read up to 0");
    assert_eq!(scene.line().await, "* 1 member");
    let kick = scene.ok("/kick bob", "group_remove").await;
    assert_eq!((&kick["conversation"], &kick["user"]), (&json!(9), &json!(8)));
    assert_eq!(scene.line().await, "* bob is no member of #9 Chess any more");
    assert_eq!(scene.ok("/leave", "group_leave").await["conversation"], 9);
    assert_eq!(scene.line().await, "* you have left #9 Chess");
    scene.put("/leave").await;
    assert_eq!(scene.line().await, "! say which group: by its id or name, or by /to GROUP before");
    let groups = scene.asks("/groups ch", "group_find").await;
    assert_eq!(groups["name"], "ch");
    scene.answer(&groups, found(&[], "")).await;
    assert_eq!(scene.line().await, "* no group's name begins so");
    scene.end().await.0.unwrap();
}

#[tokio::test]
async fn what_is_looked_at_is_read_and_the_rest_is_counted() {
    let mut scene = Scene::text().await;
    scene.put("/to bob").await;
    assert_eq!(scene.line().await, "* plain lines go to bob now");
    let read = scene.wire.hear("read").await;
    assert_eq!((&read["conversation"], &read["seq"]), (&json!(3), &json!(1)));
    scene.wire.message(3, 2, 8, "k-2").await;
    scene.line().await;
    assert_eq!(scene.wire.hear("read").await["seq"], 2);
    scene.wire.message(5, 5, 8, "k-5").await;
    assert_eq!(scene.line().await, "[00:00Z] #5 tea <bob(8)> text 5");
    assert_eq!(scene.console.prompt(), "[ 1] bob> ");
    let list = scene.asks("/list", "conversations").await;
    let tea = json!({"conversation": 5, "kind": "group", "name": "tea", "head": 5, "delivered": 5, "read": 4});
    scene.answer(&list, json!({"type": "conversations", "conversations": [tea], "more": false})).await;
    assert_eq!([scene.line().await, scene.line().await], ["#5 tea, a group, 1 unread", "* 1 conversation"]);
    let history = scene.asks("/history tea 2", "history").await;
    assert_eq!((&history["conversation"], &history["limit"]), (&json!(5), &json!(2)));
    let messages = [entry(5, 4, 8, "k-4"), entry(5, 5, 8, "k-5")];
    scene.answer(&history, json!({"type": "history", "conversation": 5, "messages": messages, "more": true})).await;
    scene.line().await;
    assert_eq!(scene.line().await, "[00:00Z] #5 tea <bob(8)> text 5");
    let read = scene.wire.hear("read").await;
    assert_eq!((&read["conversation"], &read["seq"]), (&json!(5), &json!(5)));
    assert_eq!(scene.console.prompt(), "[ 0] bob> ");
    assert_eq!(scene.end().await.0.unwrap(), clean());
}

#[tokio::test]
async fn a_lost_connection_is_told_once_and_so_is_the_next_one() {
    let mut scene = Scene::text().await;
    let login = scene.lose_the_connection().await;
    assert_eq!(login["token"], "t-1");
    for line in [
        "* the connection broke; trying again until it works",
        "* connected again",
        "* you are alice(7) on node-a",
        "* caught up; unread: #3 bob 1",
    ] {
        assert_eq!(scene.line().await, line);
    }
    assert_eq!(scene.end().await.0.unwrap(), clean());
}

#[tokio::test]
async fn a_changed_password_is_used_from_then_on() {
    let mut scene = Scene::text().await;
    let (old, new) = (Password::new("correct horse"), Password::new("battery staple"));
    scene.input.send(Input::Password { old, new }).await.unwrap();
    let request = scene.wire.hear("password").await;
    assert_eq!((&request["old"], &request["new"]), (&json!("correct horse"), &json!("battery staple")));
    scene.answer(&request, json!({"type": "ok"})).await;
    assert_eq!(scene.line().await, "* your password is changed; your other sessions are closed");
    let login = scene.lose_the_connection().await;
    assert_eq!((&login["token"], &login["password"]), (&Value::Null, &json!("battery staple")));
    scene.put("/password").await;
    let (outcome, lines) = scene.end().await;
    assert_eq!(outcome.unwrap(), Outcome { failed: 1, unanswered: 0 });
    let without_a_terminal =
        "! there is no terminal to ask for the passwords; with --json, send the request `password`";
    assert!(lines.contains(&without_a_terminal.to_owned()), "{lines:?}");
}

#[tokio::test]
async fn logging_out_ends_the_talk_and_a_revoked_session_is_an_error() {
    let mut scene = Scene::text().await;
    let logout = scene.asks("/logout everywhere", "logout").await;
    assert_eq!(logout["everywhere"], true);
    scene.answer(&logout, closing(4100, "logout")).await;
    let (outcome, lines) = scene.end().await;
    assert_eq!((outcome.unwrap(), lines), (clean(), vec!["* the session ends: logout".to_owned()]));

    let mut scene = Scene::text().await;
    let logout = scene.asks("loginout", "logout").await;
    assert_eq!(logout.get("everywhere"), None);
    scene.answer(&logout, closing(4100, "logout")).await;
    scene.end().await.0.unwrap();

    let mut scene = Scene::text().await;
    scene.asks("/join 5", "group_join").await;
    scene.wire.say(closing(4101, "revoked")).await;
    let (outcome, lines) = scene.end().await;
    assert!(matches!(outcome, Err(ClientError::Ended(close)) if close.reason == "revoked"));
    assert!(lines.contains(&"* the session ends: revoked".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn a_program_speaks_the_wire_and_hears_it() {
    let mut scene = Scene::begin(Tongue::Json).await;
    let heard = async |scene: &mut Scene| serde_json::from_str::<Value>(&scene.line().await).unwrap();
    let welcome = heard(&mut scene).await;
    assert_eq!((&welcome["type"], &welcome["user"], &welcome["token"]), (&json!("welcome"), &json!(7), &json!("")));
    assert_eq!(heard(&mut scene).await["body"], "text 1");
    assert_eq!(heard(&mut scene).await, json!({"type": "caught_up", "more": []}));

    let send = scene.asks(r#"{"type":"send","id":"s","key":"mine-1","to":8,"body":"hi"}"#, "send").await;
    assert_eq!(send["key"], "mine-1");
    scene.wire.sent(&send, 3, 2).await;
    assert_eq!(
        heard(&mut scene).await,
        json!({"type": "sent", "id": "s", "key": "mine-1", "conversation": 3, "seq": 2, "at": 1})
    );
    let find = scene.asks(r#"{"type":"find_user","id":90,"name":"carol"}"#, "find_user").await;
    scene.answer(&find, json!({"type": "user", "user": 9, "name": "carol", "online": false})).await;
    assert_eq!(heard(&mut scene).await, json!({"type": "user", "id": 90, "user": 9, "name": "carol", "online": false}));
    scene.ok("/block carol", "block").await;
    assert_eq!(heard(&mut scene).await, json!({"type": "ok"}));
    scene.put(r#"{"type":"read","conversation":3,"seq":1}"#).await;
    assert_eq!(scene.wire.hear("read").await["seq"], 1);
    let typing = scene.asks(r#"{"type":"typing","conversation":3}"#, "typing").await;
    assert_eq!(typing["conversation"], 3);
    scene.wire.say(json!({"type": "typing", "conversation": 3, "user": 8})).await;
    assert_eq!(heard(&mut scene).await, json!({"type": "typing", "conversation": 3, "user": 8}));

    scene.put(r#"{"type":"dance","id":4}"#).await;
    let error = heard(&mut scene).await;
    assert_eq!((&error["id"], &error["code"]), (&json!(4), &json!("bad_frame")));
    scene.put(r#"{"type":"login","id":5,"name":"bob","password":"correct horse"}"#).await;
    let error = heard(&mut scene).await;
    assert_eq!((&error["id"], &error["code"]), (&json!(5), &json!("conflict")));
    let logout = scene.asks(r#"{"type":"logout","id":6}"#, "logout").await;
    scene.answer(&logout, closing(4100, "logout")).await;
    let last = heard(&mut scene).await;
    assert_eq!((&last["type"], &last["id"]), (&json!("closing"), &json!(6)));
    assert_eq!(scene.end().await.0.unwrap(), Outcome { failed: 2, unanswered: 0 });
}
