//! Subjects as topics. A subject's segments hold nothing that means something to MQTT or ActiveMQ, so that only what
//! joins them is exchanged: `sb.node-a` is the topic `sb/node-a`, which ActiveMQ itself calls `sb.node-a` again.

use crate::bus::Subject;

/// Returns the topic of a subject.
pub(super) fn topic(subject: &Subject) -> String {
    subject.as_str().replace('.', "/")
}

/// Returns the subject of a topic that was subscribed; nothing arrives on any other.
pub(super) fn subject(topic: &str) -> String {
    topic.replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_topic_and_back() {
        for (name, expected) in [("a", "a"), ("sb.0123.n.node-a_1", "sb/0123/n/node-a_1")] {
            let there = topic(&Subject::new(name).unwrap());
            assert_eq!((there.as_str(), subject(&there).as_str()), (expected, name));
        }
    }
}
