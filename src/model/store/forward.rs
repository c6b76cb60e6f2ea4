//! The way from the [`Store`](super::Store) trait to a database.

/// Implements [`Store`](super::Store) for a database by its own methods, which stand in files by what they are about. What
/// needs no statement is answered here, for all databases alike.
macro_rules! implement_store {
    ($store:ty) => {
        const _: () = {
            use async_trait::async_trait;
            use $crate::model::store::{
                Append, Beat, Beaten, Changes, Claim, Claimed, CursorMoved, CursorUpdate, Friend, Friendship, Head,
                History, Member, Meta, NodeRow, Outcome, Page, Presence, PresenceChange, Range, Store, StoreError,
                User, UserChange,
            };
            use $crate::model::{ConversationId, Group, Membership, Message, Millis, Name, NodeId, UserId};

            #[async_trait]
            impl Store for $store {
                fn meta(&self) -> &Meta {
                    &self.meta
                }

                async fn now(&self) -> Result<Millis, StoreError> {
                    self.read_clock().await
                }

                async fn user_create(&self, name: &Name, password_hash: &str) -> Result<UserId, StoreError> {
                    self.create_user(name, password_hash).await
                }

                async fn user_by_name(&self, name: &Name) -> Result<Option<User>, StoreError> {
                    self.find_user_by_name(name).await
                }

                async fn users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
                    if users.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.find_users(users).await
                }

                async fn user_list(&self, after: Option<&Name>, limit: usize) -> Result<Vec<User>, StoreError> {
                    self.list_users(after, limit).await
                }

                async fn user_change(&self, user: UserId, change: &UserChange) -> Result<bool, StoreError> {
                    self.change_user(user, change).await
                }

                async fn friend_add(&self, user: UserId, friend: UserId) -> Result<Friendship, StoreError> {
                    self.add_friend(user, friend).await
                }

                async fn friend_accept(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
                    self.accept_friend(user, friend).await
                }

                async fn friend_remove(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
                    self.remove_friend(user, friend).await
                }

                async fn friends(&self, users: &[UserId]) -> Result<Vec<Friend>, StoreError> {
                    if users.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.read_friends(users).await
                }

                async fn block(&self, user: UserId, other: UserId, blocked: bool) -> Result<(), StoreError> {
                    self.set_block(user, other, blocked).await
                }

                async fn direct(&self, pairs: &[(UserId, UserId)]) -> Result<Vec<Option<ConversationId>>, StoreError> {
                    if pairs.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.find_or_create_directs(pairs).await
                }

                async fn group_create(
                    &self,
                    owner: UserId,
                    name: &str,
                    description: &str,
                ) -> Result<Group, StoreError> {
                    self.create_group(owner, name, description).await
                }

                async fn group(&self, conversation: ConversationId) -> Result<Option<Group>, StoreError> {
                    self.find_group(conversation).await
                }

                async fn group_find(&self, prefix: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
                    self.find_groups(prefix, limit).await
                }

                async fn group_members(
                    &self,
                    conversation: ConversationId,
                    after: Option<UserId>,
                    limit: usize,
                ) -> Result<Vec<Member>, StoreError> {
                    self.read_members(conversation, after, limit).await
                }

                async fn append(&self, entries: &[Append]) -> Result<Vec<Outcome>, StoreError> {
                    if entries.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.append_batch(entries).await
                }

                async fn presence(
                    &self,
                    conversations: &[ConversationId],
                    except: &NodeId,
                ) -> Result<Vec<Presence>, StoreError> {
                    if conversations.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.find_nodes_of_members(conversations, except).await
                }

                async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
                    if conversations.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.read_heads(conversations).await
                }

                async fn messages(&self, ranges: &[Range], limit: usize) -> Result<Vec<Message>, StoreError> {
                    if ranges.is_empty() || limit == 0 {
                        return Ok(Vec::new());
                    }
                    self.read_ranges(ranges, limit).await
                }

                async fn history(
                    &self,
                    user: UserId,
                    conversation: ConversationId,
                    page: Page,
                    limit: usize,
                ) -> Result<Option<History>, StoreError> {
                    self.read_page(user, conversation, page, limit).await
                }

                async fn conversations_of(&self, users: &[UserId]) -> Result<Vec<(UserId, Head)>, StoreError> {
                    if users.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.read_heads_of_users(users).await
                }

                async fn memberships(
                    &self,
                    users: &[UserId],
                    before: Option<ConversationId>,
                    limit: usize,
                ) -> Result<Vec<Membership>, StoreError> {
                    if users.is_empty() || limit == 0 {
                        return Ok(Vec::new());
                    }
                    self.read_memberships(users, before, limit).await
                }

                async fn memberships_in(
                    &self,
                    conversations: &[ConversationId],
                    users: &[UserId],
                ) -> Result<Vec<Membership>, StoreError> {
                    if conversations.is_empty() || users.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.read_memberships_in(conversations, users).await
                }

                async fn cursors(&self, updates: &[CursorUpdate]) -> Result<Vec<CursorMoved>, StoreError> {
                    if updates.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.raise_cursors(updates).await
                }

                async fn changes(&self, since: Millis) -> Result<Changes, StoreError> {
                    self.read_changes(since).await
                }

                async fn presence_change(
                    &self,
                    node: &NodeId,
                    epoch: u64,
                    changes: &[PresenceChange],
                ) -> Result<bool, StoreError> {
                    self.change_presence(node, epoch, changes).await
                }

                async fn online(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
                    if users.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.find_online(users).await
                }

                async fn whereabouts(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError> {
                    if users.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.find_nodes_of_users(users).await
                }

                async fn prune(&self, before: Millis, limit: usize) -> Result<u64, StoreError> {
                    self.prune_entries(before, limit).await
                }

                async fn node_claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
                    self.claim_node(claim).await
                }

                async fn node_beat(&self, beat: &Beat) -> Result<Beaten, StoreError> {
                    self.beat_node(beat).await
                }

                async fn nodes(&self) -> Result<(Millis, Vec<NodeRow>), StoreError> {
                    self.read_nodes().await
                }

                async fn node_drain(&self, node: &NodeId, epoch: u64) -> Result<bool, StoreError> {
                    self.drain_node(node, epoch).await
                }

                async fn node_expire(&self, node: &NodeId, epoch: u64) -> Result<Option<Vec<UserId>>, StoreError> {
                    self.expire_node(node, epoch).await
                }

                async fn node_release(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
                    self.release_node(node, epoch).await
                }

                async fn close(&self) {
                    self.shut().await;
                }
            }
        };
    };
}

pub(super) use implement_store;
