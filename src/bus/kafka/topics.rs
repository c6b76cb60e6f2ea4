//! The topics behind subjects.

use std::borrow::Cow;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::clients::PATIENCE;
use super::settings::TOPIC;
use crate::bus::Subject;

/// What all our topics begin with, and nobody else's should.
pub(super) const PREFIX: &str = "switchboard.";
/// A topic that is not of our making, for it stands for no subject.
pub(super) const NEVER: &str = "switchboard.-";

/// Returns the topic of a subject. Kafka takes `a.b` and `a_b` for too much alike to let both be, so `_` and `-` have a
/// `-` before them: then two names differ even where `.` and `_` are the same.
pub(super) fn name_of(subject: &Subject) -> String {
    let subject = subject.as_str();
    let mut name = String::with_capacity(PREFIX.len() + subject.len() + 8);
    name.push_str(PREFIX);
    for character in subject.chars() {
        if matches!(character, '_' | '-') {
            name.push('-');
        }
        name.push(character);
    }
    name
}

/// Returns the subject of a topic of ours.
pub(super) fn subject_of(topic: &str) -> Option<Cow<'_, str>> {
    let name = topic.strip_prefix(PREFIX)?;
    if !name.contains('-') {
        return Some(Cow::Borrowed(name));
    }
    let mut subject = String::with_capacity(name.len());
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        subject.push(if character == '-' { characters.next()? } else { character });
    }
    Some(Cow::Owned(subject))
}

/// Creates the topics of subjects, where they are not there yet.
pub(super) async fn create(admin: &AdminClient<impl ClientContext>, subjects: &[Subject]) -> KafkaResult<()> {
    for result in ask(admin, subjects, false).await? {
        exists(result)?;
    }
    Ok(())
}

/// Tells for each subject whether there is a topic. It is the controller's word, as other brokers may hear of a new
/// topic a moment later.
pub(super) async fn exist(
    admin: &AdminClient<impl ClientContext>,
    subjects: &[Subject],
) -> KafkaResult<Vec<KafkaResult<bool>>> {
    Ok(ask(admin, subjects, true).await?.into_iter().map(exists).collect())
}

/// Tells from the answer to a creation whether the topic was there already.
fn exists(result: TopicResult) -> KafkaResult<bool> {
    match result {
        Ok(_) => Ok(false),
        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(true),
        Err((_, code)) => Err(KafkaError::Global(code)),
    }
}

async fn ask(
    admin: &AdminClient<impl ClientContext>,
    subjects: &[Subject],
    only: bool,
) -> KafkaResult<Vec<TopicResult>> {
    let names: Vec<String> = subjects.iter().map(name_of).collect();
    let new = |name| {
        // As many replicas as the cluster has for its topics.
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
        TOPIC.into_iter().fold(topic, |topic, (key, value)| topic.set(key, value))
    };
    let topics: Vec<NewTopic<'_>> = names.iter().map(|name| new(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    admin.create_topics(&topics, &options.validate_only(only)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_tells_its_subject() {
        for (text, topic) in [("a.b", "switchboard.a.b"), ("a_b.c-d", "switchboard.a-_b.c--d"), ("a", "switchboard.a")]
        {
            let subject = Subject::new(text).unwrap();
            assert_eq!(name_of(&subject), topic);
            assert_eq!(subject_of(topic).as_deref(), Some(text));
        }
        assert_eq!(subject_of("orders"), None);
        assert_eq!(subject_of(NEVER), None);
    }

    #[test]
    fn topics_differ_even_where_kafka_tells_a_dot_from_an_underscore_badly() {
        let alike = ["a.b", "a_b", "a-.b", "a-_b", "a.-b", "a_-b", "a-b", "a--b", "a-.-b"];
        let blurred = |text: &str| name_of(&Subject::new(text).unwrap()).replace('.', "_");
        for (index, one) in alike.iter().enumerate() {
            for other in &alike[index + 1..] {
                assert_ne!(blurred(one), blurred(other), "{one} and {other}");
            }
        }
    }
}
