use super::handle::unexpected;
use super::{ChatClient, ClientError};
use crate::model::{ConversationId, Seq, UserId};
use crate::protocol::{GroupView, MemberView, RequestBody, ServerFrame};

/// A group that was created or joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Its last seq.
    pub head: Seq,
    /// How many members it has.
    pub members: u64,
}

/// A page of a group's members.
#[derive(Debug, Clone)]
pub struct MembersPage {
    /// Ascending by id.
    pub members: Vec<MemberView>,
    /// There are more.
    pub more: bool,
}

impl ChatClient {
    /// Creates a group. It is not repeated when the connection breaks meanwhile ([`ClientError::OutcomeUnknown`]).
    pub async fn group_create(&self, name: &str, description: Option<&str>) -> Result<GroupInfo, ClientError> {
        let (name, description) = (name.to_owned(), description.map(str::to_owned));
        group(self.ask(RequestBody::GroupCreate { name, description }).await?)
    }

    /// Becomes a member of a group.
    pub async fn group_join(&self, conversation: ConversationId) -> Result<GroupInfo, ClientError> {
        group(self.ask(RequestBody::GroupJoin { conversation }).await?)
    }

    /// Ceases to be a member of a group.
    pub async fn group_leave(&self, conversation: ConversationId) -> Result<(), ClientError> {
        self.ask(RequestBody::GroupLeave { conversation }).await.map(drop)
    }

    /// Makes somebody else cease to be a member of a group that the user owns.
    pub async fn group_remove(&self, conversation: ConversationId, user: UserId) -> Result<(), ClientError> {
        self.ask(RequestBody::GroupRemove { conversation, user }).await.map(drop)
    }

    /// Finds groups whose names begin so, whatever the case. Several groups may have one name.
    pub async fn group_find(&self, name: &str) -> Result<Vec<GroupView>, ClientError> {
        match self.ask(RequestBody::GroupFind { name: name.to_owned() }).await? {
            ServerFrame::Groups { groups, .. } => Ok(groups),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads the members of a group, or those with higher ids than `after`.
    pub async fn group_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: Option<u64>,
    ) -> Result<MembersPage, ClientError> {
        match self.ask(RequestBody::GroupMembers { conversation, after, limit }).await? {
            ServerFrame::Members { members, more, .. } => Ok(MembersPage { members, more }),
            other => Err(unexpected(&other)),
        }
    }
}

fn group(frame: ServerFrame) -> Result<GroupInfo, ClientError> {
    match frame {
        ServerFrame::Group { conversation, name, description, head, members, .. } => {
            Ok(GroupInfo { conversation, name, description, head, members })
        }
        other => Err(unexpected(&other)),
    }
}
