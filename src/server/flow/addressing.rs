//! Who gets what: entries and notices by the subject on which they go out, in either routing.

use std::collections::{HashMap, HashSet};

use super::envelope::{Delivery, Packet, Recipients};
use super::notice::{Audience, Notice};
use super::router::Routed;
use super::subscriptions::Address;
use super::timeline::Entry;
use crate::bus::Subject;
use crate::model::store::{Presence, StoreError};
use crate::model::{ConversationId, ConversationKind, MessageKind, NodeId, UserId};
use crate::server::core::Core;

/// What goes out on one subject.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    deliveries: Vec<Delivery>,
    notices: Vec<Notice>,
    /// How many nodes are to hear it, as far as presence tells.
    pub(super) listeners: usize,
}

/// Where the recipients are: on which other nodes, by conversation and by user.
struct Places {
    conversations: HashMap<ConversationId, Vec<Presence>>,
    users: HashMap<UserId, Vec<NodeId>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Destination {
    Node(NodeId),
    Shared(Address),
}

/// Finds out where the recipients are and sorts everything by subject. One query for what is in conversations, and one
/// more for what concerns single users.
pub(super) async fn address(
    core: &Core,
    entries: Vec<Routed>,
    notices: Vec<Notice>,
) -> Result<Vec<(Subject, Parcel)>, StoreError> {
    let places = Places::find(core, &entries, &notices).await?;
    let mut parcels: HashMap<Destination, Parcel> = HashMap::new();
    if core.subscriptions.per_user() {
        to_users_and_groups(entries, &places, &mut parcels);
    } else {
        to_nodes(entries, &places, &mut parcels);
    }
    for notice in notices {
        let nodes: Vec<&NodeId> = match notice.to {
            Audience::Conversation(id, _) => places.of(id).iter().map(|place| &place.node).collect(),
            Audience::User(user) => places.users.get(&user).into_iter().flatten().collect(),
        };
        for node in nodes {
            let parcel = parcels.entry(Destination::Node(node.clone())).or_default();
            parcel.notices.push(notice.clone());
            parcel.listeners = 1;
        }
    }
    let subject = |(destination, mut parcel): (Destination, Parcel)| match destination {
        Destination::Node(node) => (core.inbox_of(&node), parcel),
        Destination::Shared(address) => {
            // The broker counts this node too.
            parcel.listeners += usize::from(core.subscriptions.hears(address));
            (core.subject_of(address), parcel)
        }
    };
    Ok(parcels.into_iter().map(subject).collect())
}

impl Places {
    async fn find(core: &Core, entries: &[Routed], notices: &[Notice]) -> Result<Self, StoreError> {
        let mut conversations: Vec<ConversationId> = entries.iter().map(|routed| routed.conversation).collect();
        let mut users = Vec::new();
        for notice in notices {
            match notice.to {
                Audience::Conversation(conversation, _) => conversations.push(conversation),
                Audience::User(user) => users.push(user),
            }
        }
        // Who joins or leaves may be on nodes where no other member is.
        users.extend(entries.iter().filter(|routed| is_move(&routed.entry)).map(|routed| routed.entry.from));
        conversations.sort_unstable();
        conversations.dedup();
        let mut places = Self { conversations: HashMap::new(), users: HashMap::new() };
        for place in core.store.presence(&conversations, &core.node).await? {
            places.conversations.entry(place.conversation).or_default().push(place);
        }
        for (user, node) in core.store.whereabouts(&users).await? {
            if node != core.node {
                places.users.entry(user).or_default().push(node);
            }
        }
        Ok(places)
    }

    fn of(&self, conversation: ConversationId) -> &[Presence] {
        self.conversations.get(&conversation).map_or(&[], Vec::as_slice)
    }
}

fn is_move(entry: &Entry) -> bool {
    entry.kind != MessageKind::Text
}

/// A packet per node names the users whom its entries are for.
fn to_nodes(entries: Vec<Routed>, places: &Places, parcels: &mut HashMap<Destination, Parcel>) {
    let mut send = |node: &NodeId, conversation, entry: &Entry, users: Vec<UserId>| {
        let to = if users.is_empty() { Recipients::Members } else { Recipients::Users(users) };
        let parcel = parcels.entry(Destination::Node(node.clone())).or_default();
        parcel.deliveries.push(Delivery { conversation, entry: entry.clone(), to });
        parcel.listeners = 1;
    };
    for Routed { conversation, entry } in entries {
        let known = places.of(conversation);
        for place in known {
            send(&place.node, conversation, &entry, place.users.clone());
        }
        if entry.kind == MessageKind::Leave {
            // Who left is no member any more, but their sessions are still in the timelines of their nodes.
            let elsewhere = |home: &&NodeId| known.iter().all(|place| place.node != **home);
            for home in places.users.get(&entry.from).into_iter().flatten().filter(elsewhere) {
                send(home, conversation, &entry, vec![entry.from]);
            }
        }
    }
}

/// What is said between two goes to each of them, what is said in a group goes to the group, once for all nodes. Who
/// joins or leaves is told as a user too: their nodes do not hear the group yet, or not for long.
fn to_users_and_groups(entries: Vec<Routed>, places: &Places, parcels: &mut HashMap<Destination, Parcel>) {
    let moved: HashSet<(ConversationId, UserId)> = entries
        .iter()
        .filter(|routed| is_move(&routed.entry))
        .map(|routed| (routed.conversation, routed.entry.from))
        .collect();
    let mut send = |address, conversation, entry: &Entry, to, listeners: usize| {
        let parcel = parcels.entry(Destination::Shared(address)).or_default();
        parcel.deliveries.push(Delivery { conversation, entry: entry.clone(), to });
        parcel.listeners = parcel.listeners.max(listeners);
    };
    for Routed { conversation, entry } in entries {
        let known = places.of(conversation);
        let direct = known.first().is_some_and(|place| place.kind == ConversationKind::Direct);
        if direct {
            let mut nodes: HashMap<UserId, usize> = HashMap::new();
            for user in known.iter().flat_map(|place| &place.users) {
                *nodes.entry(*user).or_default() += 1;
            }
            for (user, nodes) in nodes {
                send(Address::User(user), conversation, &entry, Recipients::Users(vec![user]), nodes);
            }
            continue;
        }
        if !known.is_empty() {
            // A node where nobody else is a member has the group only from now on.
            let new = |place: &&Presence| {
                !place.users.is_empty() && place.users.iter().all(|user| moved.contains(&(conversation, *user)))
            };
            let listeners = known.len() - known.iter().filter(new).count();
            send(Address::Group(conversation), conversation, &entry, Recipients::Listeners, listeners);
        }
        let homes = places.users.get(&entry.from).map_or(0, Vec::len);
        if is_move(&entry) && homes > 0 {
            send(Address::User(entry.from), conversation, &entry, Recipients::Users(vec![entry.from]), homes);
        }
    }
}

impl Parcel {
    /// Cuts into packets of at most `limit` bytes (a single larger delivery goes alone).
    pub(super) fn packets(self, limit: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for delivery in self.deliveries {
            if !batch.is_empty() && bytes + delivery.bytes() > limit {
                packets.push(Packet::Messages(std::mem::take(&mut batch)));
                bytes = 0;
            }
            bytes += delivery.bytes();
            batch.push(delivery);
        }
        if !batch.is_empty() {
            packets.push(Packet::Messages(batch));
        }
        for chunk in self.notices.chunks(256) {
            packets.push(Packet::Notices(chunk.to_vec()));
        }
        packets
    }
}
