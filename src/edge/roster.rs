use std::collections::HashMap;

use super::{EdgeNode, NodeAddress};
use crate::model::Millis;
use crate::model::store::{NodeRow, NodeState};

/// A node that says nothing is out after so many checks in a row; one that says no is out at once.
const SILENCES: u32 = 2;

/// What a node says when it is asked whether it takes new clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// It does.
    Ready,
    /// It does not.
    NotReady,
    /// It does not answer.
    Silent,
}

/// Which nodes get new clients.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Those that do, and how often in a row they have been silent.
    members: HashMap<NodeAddress, u32>,
}

impl Roster {
    /// Takes what the node table offers and what each of those nodes has said, and returns who gets new clients now, in
    /// the order of their addresses.
    pub(super) fn update(&mut self, heard: Vec<(EdgeNode, Word)>) -> Vec<EdgeNode> {
        let mut members = HashMap::new();
        let mut nodes = Vec::new();
        for (node, word) in heard {
            let silences = match (word, self.members.get(&node.address)) {
                (Word::Ready, _) => 0,
                (Word::Silent, Some(before)) if before + 1 < SILENCES => before + 1,
                (Word::Silent | Word::NotReady, _) => continue,
            };
            members.insert(node.address.clone(), silences);
            nodes.push(node);
        }
        self.members = members;
        in_order(nodes)
    }
}

/// Returns the nodes that the node table says serve at `now`, by the database's clock, each with the address of its
/// HTTP front.
pub(super) fn offered(rows: &[NodeRow], now: Millis) -> Vec<(EdgeNode, String)> {
    let serving = rows.iter().filter(|row| row.state == NodeState::Ready && row.lease_until > now);
    let offered = serving.filter_map(|row| match NodeAddress::new(&row.tcp) {
        Ok(address) => Some((EdgeNode { address, weight: row.weight.clamp(1, 100) }, row.http.clone())),
        Err(error) => {
            tracing::warn!(node = %row.node, %error, "a node cannot be put behind the balancer, correct node.advertise");
            None
        }
    });
    offered.collect()
}

/// Returns the nodes that the node table says serve at `now`, by the database's clock, in the order of their addresses.
pub fn live_nodes(rows: &[NodeRow], now: Millis) -> Vec<EdgeNode> {
    in_order(offered(rows, now).into_iter().map(|(node, _)| node).collect())
}

fn in_order(mut nodes: Vec<EdgeNode>) -> Vec<EdgeNode> {
    nodes.sort_by(|one, other| one.address.as_str().cmp(other.address.as_str()));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    fn node(address: &str) -> EdgeNode {
        EdgeNode { address: NodeAddress::new(address).unwrap(), weight: 1 }
    }

    fn addresses(nodes: &[EdgeNode]) -> Vec<&str> {
        nodes.iter().map(|node| node.address.as_str()).collect()
    }

    #[test]
    fn who_says_no_is_out_at_once_and_who_is_silent_at_the_second_time() {
        let mut roster = Roster::default();
        let mut step = |a, b| {
            let heard = [("b:1", b), ("a:1", a)].map(|(address, word)| (node(address), word));
            addresses(&roster.update(heard.into())).join(" ")
        };
        assert_eq!(step(Word::Silent, Word::Ready), "b:1");
        assert_eq!(step(Word::Ready, Word::Ready), "a:1 b:1");
        assert_eq!(step(Word::NotReady, Word::Silent), "b:1");
        assert_eq!(step(Word::Ready, Word::Silent), "a:1");
        assert_eq!(step(Word::Silent, Word::Silent), "a:1");
        assert_eq!(step(Word::Ready, Word::Ready), "a:1 b:1");
        assert_eq!(step(Word::Silent, Word::Ready), "a:1 b:1");
        assert_eq!(step(Word::Silent, Word::NotReady), "");
    }

    #[test]
    fn who_is_not_offered_any_more_is_out() {
        let mut roster = Roster::default();
        roster.update(vec![(node("a:1"), Word::Ready)]);
        assert!(roster.update(vec![]).is_empty());
        assert!(roster.update(vec![(node("a:1"), Word::Silent)]).is_empty());
    }

    #[test]
    fn only_ready_nodes_with_a_living_lease_are_offered() {
        let row = |tcp: &str, state, lease_until, weight| NodeRow {
            node: NodeId::new("n").unwrap(),
            epoch: 1,
            holder: String::new(),
            tcp: tcp.to_owned(),
            http: "h:1".to_owned(),
            weight,
            state,
            bus_ok: true,
            heard_at: None,
            dirty_since: None,
            sessions: 0,
            beat_at: 0,
            lease_until,
            drain_asked_at: None,
        };
        let rows = [
            row("d:1", NodeState::Ready, 101, 300),
            row("c:1", NodeState::Ready, 100, 1),
            row("b:1", NodeState::Draining, 200, 1),
            row("no address", NodeState::Ready, 200, 1),
            row("a:1", NodeState::Ready, 200, 7),
        ];
        let live = live_nodes(&rows, 100);
        assert_eq!(addresses(&live), ["a:1", "d:1"]);
        assert_eq!(live.iter().map(|node| node.weight).collect::<Vec<_>>(), [7, 100]);
    }
}
