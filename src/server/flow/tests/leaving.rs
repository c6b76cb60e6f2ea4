//! Whoever leaves gets the leave and what was before it, and nothing behind it, whatever their sessions are about.

use std::time::Duration;

use crate::model::store::Range;
use crate::model::{ConversationId, MessageKind, UserId};
use crate::protocol::{SendTarget, ServerFrame};
use crate::server::flow::Entry;
use crate::server::scene::{Call, Client, Cluster, Host, eventually};
use crate::server::service;

/// A group of two on one node, with a message in it.
struct Group {
    cluster: Cluster,
    a: Host,
    owner: Client,
    bob: UserId,
    group: ConversationId,
}

impl Group {
    async fn new() -> Self {
        let cluster = Cluster::new().await;
        let a = cluster.node("node-a").await;
        a.hears().await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let group = cluster.group(&[alice, bob]).await;
        let owner = Client::login(&a, alice).await;
        let mut group = Self { cluster, a, owner, bob, group };
        group.says("hello").await;
        group
    }

    async fn says(&mut self, body: &str) {
        let key = body.get(..20).unwrap_or(body);
        self.owner.sent(key, SendTarget::Conversation { conversation: self.group }, body).await;
    }

    /// Sends bob away, and says something behind that.
    async fn part(&mut self) {
        let session = self.owner.member.as_ref().unwrap().session();
        service::group_remove(&self.a.core, session, None, self.group, self.bob).await.unwrap();
        self.says("a secret").await;
    }

    /// Waits until a session of bob's has the leave and is let go. It must have everything before and nothing behind.
    async fn parts(&self, device: &mut Client) {
        let leave = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.kind == MessageKind::Leave);
        device.until("the leave", |frames| frames.iter().any(leave)).await;
        eventually("it is let go", || !self.a.core.timelines.holds_user(self.group, self.bob)).await;
        device.take();
        let seqs = device.seqs(self.group);
        assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "{seqs:?}");
        assert!(!device.was_told(|frame| matches!(frame, ServerFrame::Message(m) if m.body == "a secret")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_reads_the_log_gets_the_leave_that_passes_meanwhile() {
    let mut group = Group::new().await;
    let mut device = Client::login(&group.a, group.bob).await;
    group.says("missed").await;
    device.take();
    let read = group.a.store.hold_after(Call::Messages);
    device.outbox.fall_behind(group.group, 4);
    tokio::select! {
        () = device.until("nothing", |_| false) => {}
        () = read.reached() => {}
    }
    group.part().await;
    drop(read);
    group.parts(&mut device).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_gets_the_leave_that_passes_meanwhile() {
    let mut group = Group::new().await;
    let read = group.a.store.hold_after(Call::Messages);
    let login = Client::new(&group.a, group.bob).begin_login();
    read.reached().await;
    group.part().await;
    drop(read);
    let mut device = login.await.unwrap();
    group.parts(&mut device).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_behind_gets_what_it_missed_and_the_leave() {
    let mut group = Group::new().await;
    let mut device = Client::login(&group.a, group.bob).await;
    let body = "x".repeat(60_000);
    for number in 0..8 {
        group.says(&format!("{number} {body}")).await;
    }
    assert!(device.outbox.is_behind());
    group.part().await;
    group.parts(&mut device).await;
    assert_eq!(device.seqs(group.group).len(), 10, "hello, eight more, and the leave");
}

#[tokio::test(start_paused = true)]
async fn a_leave_that_is_on_its_way_is_waited_for() {
    let group = Group::new().await;
    let mut device = Client::login(&group.a, group.bob).await;
    let leave = group.cluster.write(group.group, group.bob, MessageKind::Leave, "").await;
    // The log knows of it before the node does.
    group.a.core.repairs.adopt_users(group.group, [group.bob]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let range = Range { conversation: group.group, after: leave - 1, until: leave };
    let entry = Entry::encode(group.cluster.log.messages(&[range], 1).await.unwrap().remove(0));
    group.a.core.timelines.feed(group.group, entry, None);
    group.parts(&mut device).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_while_a_session_still_reads_up_to_the_leave_is_there_again() {
    let mut group = Group::new().await;
    let mut device = Client::login(&group.a, group.bob).await;
    let read = group.a.store.hold_after(Call::Messages);
    device.outbox.fall_behind(group.group, 3);
    tokio::select! {
        () = device.until("nothing", |_| false) => {}
        () = read.reached() => {}
    }
    group.part().await;
    let session = Client::login(&group.a, group.bob).await;
    let member = session.member.as_ref().unwrap().session();
    service::group_join(&group.a.core, member, None, group.group).await.unwrap();
    drop(read);
    let leave = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.kind == MessageKind::Leave);
    device.until("the leave", |frames| frames.iter().any(leave)).await;
    group.says("welcome back").await;
    device.hears("welcome back").await;
    assert!(!device.was_told(|frame| matches!(frame, ServerFrame::Message(m) if m.body == "a secret")));
}

#[tokio::test(start_paused = true)]
async fn who_has_left_is_not_adopted_by_what_was_read_before() {
    let mut group = Group::new().await;
    let mut device = Client::login(&group.a, group.bob).await;
    let read = group.a.store.hold_after(Call::MembershipsIn);
    group.a.core.repairs.adopt_users(group.group, [group.bob]);
    read.reached().await;
    group.part().await;
    drop(read);
    group.parts(&mut device).await;
    // One pass of repairs later than whatever has adopted.
    group.a.core.repairs.swept(group.a.core.lease.database_now()).await;
    device.outbox.room().await;
    device.take();
    let seqs = device.seqs(group.group);
    assert!(seqs.windows(2).all(|two| two[0] < two[1]), "{seqs:?}");
    // Who comes again does so on all devices.
    group.cluster.write(group.group, group.bob, MessageKind::Join, "").await;
    group.a.core.repairs.adopt_users(group.group, [group.bob]);
    eventually("it is back", || group.a.core.timelines.holds_user(group.group, group.bob)).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_left_and_reads_slowly_gets_all_up_to_the_leave() {
    let mut group = Group::new().await;
    let mut device = Client::login(&group.a, group.bob).await;
    group.says("unread").await;
    group.part().await;
    assert!(!group.a.core.timelines.holds_user(group.group, group.bob));
    // Nothing of it has been written when more comes than there is room for.
    let limit = group.a.core.limits.outbox.as_u64() as usize;
    device.outbox.event(vec![b'x'; limit].into());
    assert!(device.outbox.is_behind_in(group.group));
    group.parts(&mut device).await;
    assert!(!device.outbox.is_behind_in(group.group));
}
