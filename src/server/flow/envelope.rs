//! What one node sends another: a compact binary header and frames that are already encoded for the sockets.
//!
//! ```text
//! packet   = version:u8 kind:u8 cluster:[u8;16] epoch:u64 sent_at:i64 trace:u64 node:str8 body
//! messages = entry*           entry = conversation:u64 seq:u64 from:u64 kind:u8 to length:u32 frame
//! to       = users:u16 u64*   no users: whoever is a member; 65535 and none: whoever listens already
//! notices  = notice*          notice = audience:u8 id:u64 except:u64 told:u8 value:u64 length:u32 frame
//! sweep    = since:i64
//! canary   = number:u64
//! ```
//! Integers are big-endian. A node reads its own version and the one before.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::notice::{Audience, Notice, Told};
use super::timeline::Entry;
use crate::model::{ConversationId, MessageKind, Millis, NodeId, UserId};
use crate::protocol::CloseReason;

/// The version this node writes.
const VERSION: u8 = 1;

/// The kind of a canary, which alone is for the node that wrote it.
const CANARY: u8 = 4;

/// Who wrote a packet and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Which cluster: 16 hexadecimal digits.
    pub(crate) cluster: String,
    /// Which node.
    pub(crate) node: NodeId,
    /// In which of its lives.
    pub(crate) epoch: u64,
    /// When, by the origin's own clock.
    pub(crate) sent_at: Millis,
    /// Ties the log lines of the origin and the receiver together.
    pub(crate) trace: u64,
}

/// What a packet brings.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// Entries of conversations.
    Messages(Vec<Delivery>),
    /// What is for whoever is there now; not in the log.
    Notices(Vec<Notice>),
    /// The origin's publishes may have been lost since then, by the database's clock.
    Sweep {
        /// From when on.
        since: Millis,
    },
    /// What a node sends itself, to hear whether it hears.
    Canary {
        /// When, in milliseconds of the origin's own, which nothing sets back.
        number: u64,
    },
}

/// An entry and for whom it is.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// The entry.
    pub(crate) entry: Entry,
    /// For whom.
    pub(crate) to: Recipients,
}

/// For whom an entry is on the receiving node. It matters only where the conversation has no timeline, or a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recipients {
    /// These users; at least one, and few.
    Users(Vec<UserId>),
    /// Every member with a session there.
    Members,
    /// Nobody but the sessions in the timeline: who is new to the conversation hears of it otherwise.
    Listeners,
}

/// Stands for the number of users where there are only listeners.
const LISTENERS: u16 = u16::MAX;

/// Says why bytes are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A newer node, or not ours at all.
    #[error("unknown envelope version {0}")]
    Version(u8),
    /// Cut short, or a field that cannot be.
    #[error("malformed envelope: {0}")]
    Field(&'static str),
}

impl Packet {
    /// Writes a packet.
    pub(crate) fn encode(&self, origin: &Origin) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.body_bytes());
        out.put_u8(VERSION);
        out.put_u8(match self {
            Self::Messages(_) => 1,
            Self::Notices(_) => 2,
            Self::Sweep { .. } => 3,
            Self::Canary { .. } => CANARY,
        });
        out.put_slice(origin.cluster.as_bytes());
        out.put_u64(origin.epoch);
        out.put_i64(origin.sent_at);
        out.put_u64(origin.trace);
        out.put_u8(origin.node.as_str().len() as u8);
        out.put_slice(origin.node.as_str().as_bytes());
        match self {
            Self::Messages(deliveries) => deliveries.iter().for_each(|delivery| delivery.encode(&mut out)),
            Self::Notices(notices) => notices.iter().for_each(|notice| notice.encode(&mut out)),
            Self::Sweep { since } => out.put_i64(*since),
            Self::Canary { number } => out.put_u64(*number),
        }
        out.freeze()
    }

    /// Reads a packet, unless its origin, or whether it is a canary, says that it is not wanted. Frames share the
    /// payload's memory.
    pub(crate) fn decode(
        mut bytes: Bytes,
        wanted: impl FnOnce(&Origin, bool) -> bool,
    ) -> Result<(Origin, Option<Self>), Malformed> {
        let version = bytes.try_get_u8().map_err(|_| Malformed::Field("empty"))?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let short = |_| Malformed::Field("cut short");
        let kind = bytes.try_get_u8().map_err(short)?;
        let cluster = text(&mut bytes, 16)?;
        let epoch = bytes.try_get_u64().map_err(short)?;
        let sent_at = bytes.try_get_i64().map_err(short)?;
        let trace = bytes.try_get_u64().map_err(short)?;
        let length = bytes.try_get_u8().map_err(short)?;
        let node = NodeId::new(&text(&mut bytes, length.into())?).map_err(|_| Malformed::Field("node"))?;
        let origin = Origin { cluster, node, epoch, sent_at, trace };
        if !wanted(&origin, kind == CANARY) {
            return Ok((origin, None));
        }
        let packet = match kind {
            1 => {
                let mut deliveries = Vec::new();
                while bytes.has_remaining() {
                    deliveries.push(Delivery::decode(&mut bytes)?);
                }
                Self::Messages(deliveries)
            }
            2 => {
                let mut notices = Vec::new();
                while bytes.has_remaining() {
                    notices.push(Notice::decode(&mut bytes)?);
                }
                Self::Notices(notices)
            }
            3 => Self::Sweep { since: bytes.try_get_i64().map_err(short)? },
            CANARY => Self::Canary { number: bytes.try_get_u64().map_err(short)? },
            _ => return Err(Malformed::Field("kind")),
        };
        Ok((origin, Some(packet)))
    }

    /// Tells whether a payload is a canary.
    #[cfg(test)]
    pub(crate) fn is_canary(payload: &[u8]) -> bool {
        payload.get(1) == Some(&CANARY)
    }

    fn body_bytes(&self) -> usize {
        match self {
            Self::Messages(deliveries) => deliveries.iter().map(Delivery::bytes).sum(),
            Self::Notices(notices) => notices.len() * 64,
            Self::Sweep { .. } | Self::Canary { .. } => 8,
        }
    }
}

impl Delivery {
    /// Returns how many bytes it takes in a packet.
    pub(crate) fn bytes(&self) -> usize {
        31 + self.to.users().len() * 8 + self.entry.frame.len()
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.conversation.get());
        out.put_u64(self.entry.seq);
        out.put_u64(self.entry.from.get());
        out.put_u8(match self.entry.kind {
            MessageKind::Text => 0,
            MessageKind::Join => 1,
            MessageKind::Leave => 2,
        });
        out.put_u16(if self.to == Recipients::Listeners { LISTENERS } else { self.to.users().len() as u16 });
        self.to.users().iter().for_each(|user| out.put_u64(user.get()));
        out.put_u32(self.entry.frame.len() as u32);
        out.put_slice(&self.entry.frame);
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, Malformed> {
        let short = |_| Malformed::Field("cut short");
        let conversation = conversation(bytes)?;
        let seq = bytes.try_get_u64().map_err(short)?;
        let from = user(bytes)?;
        let kind = match bytes.try_get_u8().map_err(short)? {
            0 => MessageKind::Text,
            1 => MessageKind::Join,
            2 => MessageKind::Leave,
            _ => return Err(Malformed::Field("message kind")),
        };
        let to = match bytes.try_get_u16().map_err(short)? {
            0 => Recipients::Members,
            LISTENERS => Recipients::Listeners,
            count if bytes.remaining() < usize::from(count) * 8 => return Err(Malformed::Field("cut short")),
            count => Recipients::Users((0..count).map(|_| user(bytes)).collect::<Result<_, _>>()?),
        };
        Ok(Self { conversation, entry: Entry { seq, from, kind, frame: frame(bytes)? }, to })
    }
}

impl Recipients {
    fn users(&self) -> &[UserId] {
        match self {
            Self::Users(users) => users,
            Self::Members | Self::Listeners => &[],
        }
    }
}

impl Notice {
    fn encode(&self, out: &mut BytesMut) {
        let (audience, id, except) = match self.to {
            Audience::Conversation(id, except) => (0, id.get(), except.map_or(0, UserId::get)),
            Audience::User(id) => (1, id.get(), 0),
        };
        let (told, value, frame): (u8, u64, &[u8]) = match &self.told {
            Told::Frame(frame) => (0, 0, frame),
            Told::Member(conversation) => (1, conversation.get(), &[]),
            Told::Closed(reason) => (2, reason.code().into(), &[]),
        };
        out.put_u8(audience);
        out.put_u64(id);
        out.put_u64(except);
        out.put_u8(told);
        out.put_u64(value);
        out.put_u32(frame.len() as u32);
        out.put_slice(frame);
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, Malformed> {
        let short = |_| Malformed::Field("cut short");
        let to = match bytes.try_get_u8().map_err(short)? {
            0 => {
                let id = conversation(bytes)?;
                Audience::Conversation(id, UserId::new(bytes.try_get_u64().map_err(short)?))
            }
            1 => {
                let id = user(bytes)?;
                bytes.try_get_u64().map_err(short)?;
                Audience::User(id)
            }
            _ => return Err(Malformed::Field("audience")),
        };
        let told = bytes.try_get_u8().map_err(short)?;
        let value = bytes.try_get_u64().map_err(short)?;
        let frame = frame(bytes)?;
        let told = match told {
            0 => Told::Frame(frame),
            1 => Told::Member(ConversationId::new(value).ok_or(Malformed::Field("conversation"))?),
            2 => {
                let known = CloseReason::ALL.into_iter().find(|reason| u64::from(reason.code()) == value);
                Told::Closed(known.ok_or(Malformed::Field("close reason"))?)
            }
            _ => return Err(Malformed::Field("notice")),
        };
        Ok(Self { to, told })
    }
}

fn conversation(bytes: &mut Bytes) -> Result<ConversationId, Malformed> {
    let number = bytes.try_get_u64().map_err(|_| Malformed::Field("cut short"))?;
    ConversationId::new(number).ok_or(Malformed::Field("conversation"))
}

fn user(bytes: &mut Bytes) -> Result<UserId, Malformed> {
    let number = bytes.try_get_u64().map_err(|_| Malformed::Field("cut short"))?;
    UserId::new(number).ok_or(Malformed::Field("user"))
}

fn frame(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = bytes.try_get_u32().map_err(|_| Malformed::Field("cut short"))? as usize;
    if bytes.remaining() < length { Err(Malformed::Field("cut short")) } else { Ok(bytes.split_to(length)) }
}

fn text(bytes: &mut Bytes, length: usize) -> Result<String, Malformed> {
    if bytes.remaining() < length {
        return Err(Malformed::Field("cut short"));
    }
    String::from_utf8(bytes.split_to(length).into()).map_err(|_| Malformed::Field("text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        let node = NodeId::new("node-a").unwrap();
        Origin { cluster: "0123456789abcdef".to_owned(), node, epoch: 7, sent_at: -5, trace: u64::MAX }
    }

    fn messages() -> Packet {
        let delivery = |seq, to| Delivery {
            conversation: ConversationId::new(3).unwrap(),
            entry: Entry {
                seq,
                from: UserId::new(9).unwrap(),
                kind: MessageKind::Leave,
                frame: Bytes::from_static(b"{}\n"),
            },
            to,
        };
        let users = [4, 5].map(|user| UserId::new(user).unwrap()).to_vec();
        let to = [Recipients::Users(users), Recipients::Members, Recipients::Listeners];
        Packet::Messages((1..).zip(to).map(|(seq, to)| delivery(seq, to)).collect())
    }

    fn notices() -> Packet {
        let (group, alice) = (ConversationId::new(3).unwrap(), UserId::new(4).unwrap());
        let frame = || Told::Frame(Bytes::from_static(b"{}\n"));
        Packet::Notices(vec![
            Notice { to: Audience::Conversation(group, Some(alice)), told: frame() },
            Notice { to: Audience::Conversation(group, None), told: frame() },
            Notice { to: Audience::User(alice), told: Told::Member(group) },
            Notice { to: Audience::User(alice), told: Told::Closed(CloseReason::Revoked) },
        ])
    }

    #[test]
    fn a_packet_survives_the_bus() {
        for packet in [messages(), Packet::Sweep { since: 42 }, notices(), Packet::Canary { number: 7 }] {
            let bytes = packet.encode(&origin());
            let (read_origin, read) = Packet::decode(bytes.clone(), |_, _| true).unwrap();
            assert_eq!(read_origin, origin());
            assert_eq!(read.unwrap().encode(&origin()), bytes);
            assert!(matches!(Packet::decode(bytes, |read, _| *read != origin()), Ok((_, None))));
        }
    }

    #[test]
    fn every_prefix_of_a_packet_is_refused_or_shorter() {
        let bytes = messages().encode(&origin());
        for length in 0..bytes.len() {
            if let Ok((_, Some(Packet::Messages(deliveries)))) = Packet::decode(bytes.slice(..length), |_, _| true) {
                assert!(deliveries.len() < 3);
            }
        }
        assert_eq!(Packet::decode(Bytes::from_static(&[2, 1]), |_, _| true).unwrap_err(), Malformed::Version(2));
    }
}
