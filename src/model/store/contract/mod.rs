//! The store contract: one list of cases, stamped on every database by [`store_contract!`](crate::store_contract).
//!
//! A case gets a log that nobody else uses and may open several stores onto it, as the nodes of a cluster do.

pub mod accounts;
pub mod appending;
pub mod blocks;
pub mod changes;
pub mod conversations;
pub mod cursors;
pub mod finding;
pub mod friends;
pub mod keys;
pub mod lifecycle;
pub mod membership;
pub mod nodes;
pub mod presence;
pub mod pruning;
pub mod reading;
mod scene;
pub mod users;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Store, StoreError};

/// A log that was made for one case. It is gone when this is dropped.
#[async_trait]
pub trait FreshLog: Send + Sync {
    /// Opens a store onto the log. A log that lives in one process may return the same store each time.
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError>;
}

/// Stamps every case of the store contract on a database, as tests in a module of the given name. The expression makes
/// a [`FreshLog`](crate::model::store::contract::FreshLog).
///
/// ```ignore
/// store_contract!(sqlite, FileLog::new());
/// ```
#[macro_export]
macro_rules! store_contract {
    ($database:ident, $log:expr) => {
        $crate::store_contract!(@stamp $database, $log,
            users::a_name_that_folds_to_a_taken_one_is_a_conflict,
            users::a_user_is_found_by_folded_name_and_by_id,
            accounts::users_are_listed_by_folded_name_page_by_page,
            accounts::a_change_of_an_account_makes_earlier_tokens_stale,
            accounts::a_disabled_account_can_be_enabled_again,
            accounts::a_deleted_account_stays_deleted_and_keeps_its_name,
            accounts::a_deleted_account_has_no_friends_and_no_requests,
            accounts::an_unknown_account_is_not_changed,
            friends::a_request_shows_to_the_asked_user_only,
            friends::an_accepted_request_is_a_friendship_of_both,
            friends::asking_back_accepts,
            friends::two_users_who_ask_each_other_at_once_are_friends,
            friends::nothing_is_accepted_that_was_not_asked,
            friends::a_friendship_or_a_request_is_removed_from_either_side,
            friends::friends_come_by_name_in_the_order_of_the_users,
            friends::a_friend_on_several_nodes_is_one_friend_online,
            friends::nobody_asks_themselves_or_somebody_unknown,
            blocks::a_blocked_users_texts_are_forbidden_until_unblocked,
            blocks::a_block_is_by_one_user_in_one_direction,
            blocks::a_stored_text_is_repeated_although_its_sender_was_blocked_since,
            blocks::a_block_does_not_concern_groups,
            blocks::a_blocked_user_cannot_ask_to_be_a_friend,
            blocks::where_only_friends_may_write_others_are_forbidden,
            blocks::only_the_entries_for_friends_need_one,
            blocks::a_block_of_oneself_or_of_somebody_unknown_is_nothing,
            finding::groups_are_found_by_the_beginning_of_their_folded_names,
            finding::groups_of_one_name_come_in_the_order_of_their_ids,
            finding::a_prefix_is_taken_as_it_is_written,
            finding::direct_conversations_are_no_groups_to_find,
            finding::members_come_by_id_page_by_page,
            finding::members_show_role_presence_and_cursors,
            finding::whereabouts_are_the_nodes_of_each_user,
            pruning::old_entries_go_oldest_first_and_at_most_as_many_as_allowed,
            pruning::the_newest_entry_of_a_conversation_stays,
            pruning::what_is_not_old_stays,
            pruning::history_ends_where_the_kept_entries_begin,
            pruning::ranges_begin_at_the_first_kept_entry,
            pruning::heads_and_seqs_go_on_after_pruning,
            pruning::a_pruned_key_is_free_and_a_kept_one_is_not,
            pruning::two_stores_that_prune_at_once_delete_each_entry_once,
            conversations::a_pair_has_one_direct_conversation_in_either_order,
            conversations::a_pair_with_somebody_unknown_has_no_conversation,
            conversations::two_stores_that_meet_the_same_pairs_at_once_agree,
            conversations::a_new_group_has_its_owner_as_its_only_member,
            conversations::a_direct_conversation_is_no_group,
            appending::seqs_ascend_from_one_in_each_conversation,
            appending::concurrent_appends_of_two_stores_leave_no_hole,
            appending::texts_and_keys_come_back_as_they_were_given,
            appending::only_members_of_a_known_conversation_may_write,
            appending::a_text_moves_its_senders_own_read_cursor,
            appending::an_entry_takes_the_databases_time,
            keys::a_repeated_key_returns_the_first_seq,
            keys::a_key_with_another_body_kind_or_conversation_is_a_conflict,
            keys::duplicates_inside_one_batch_are_resolved_in_order,
            keys::keys_of_two_senders_do_not_meet,
            keys::the_same_keys_on_two_stores_at_once_are_stored_once,
            membership::a_join_makes_a_member_from_its_seq_on,
            membership::a_leave_ends_a_membership,
            membership::joins_and_leaves_count_for_the_entries_behind_them_in_a_batch,
            membership::an_owner_who_leaves_hands_the_group_to_the_oldest_member,
            membership::whoever_joins_a_group_without_an_owner_owns_it,
            membership::nobody_joins_or_leaves_a_direct_conversation,
            membership::somebody_unknown_joins_nothing,
            reading::heads_of_unknown_conversations_are_left_out,
            reading::ranges_come_in_their_order_and_stop_at_the_limit,
            reading::history_pages_down_and_up,
            reading::history_begins_at_the_join,
            reading::history_is_for_members,
            reading::every_conversation_of_a_user_is_listed_with_its_head,
            reading::memberships_come_most_recent_first_and_page_by_page,
            reading::memberships_are_limited_per_user,
            reading::memberships_in_chosen_conversations_are_those_of_the_chosen_users,
            reading::a_direct_membership_shows_the_other_user,
            cursors::cursors_never_fall_and_stop_at_the_head,
            cursors::a_member_named_twice_gets_the_higher_of_both,
            cursors::cursors_of_no_membership_are_ignored,
            changes::changes_are_heads_that_moved_and_members_that_came,
            changes::overlapping_reads_miss_no_commit_of_another_store,
            presence::presence_names_the_members_on_other_nodes,
            presence::many_members_on_a_node_are_not_named,
            presence::the_last_change_of_a_user_counts,
            presence::a_node_that_lost_its_epoch_changes_nothing,
            presence::a_user_is_online_while_any_node_has_them,
            nodes::a_first_claim_gets_the_first_epoch_and_shows_in_the_table,
            nodes::a_live_lease_refuses_another_holder,
            nodes::the_same_holder_claims_again_with_a_higher_epoch,
            nodes::a_takeover_fences_the_earlier_holder_and_drops_its_presence,
            nodes::two_stores_that_claim_one_node_at_once_do_not_both_get_it,
            nodes::a_beat_renews_the_lease_and_writes_the_condition,
            nodes::a_lease_that_has_run_out_is_expired_once,
            nodes::an_expiry_tells_who_was_there,
            nodes::a_live_lease_is_not_expired,
            nodes::a_wish_to_drain_stands_until_the_next_claim,
            nodes::who_does_not_live_is_not_asked_to_drain,
            nodes::a_released_lease_is_free_and_leaves_no_presence,
            nodes::a_release_by_a_fenced_node_changes_nothing,
            lifecycle::stores_of_one_log_share_its_identity,
            lifecycle::what_one_store_commits_another_reads_at_once,
            lifecycle::a_dropped_call_leaves_no_open_transaction,
            lifecycle::an_empty_batch_is_answered_with_nothing,
            lifecycle::close_is_idempotent_and_later_calls_are_unavailable,
            lifecycle::close_lets_a_running_append_finish,
        );
    };
    (@stamp $database:ident, $log:expr, $($promise:ident :: $case:ident),* $(,)?) => {
        mod $database {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let log = $log;
                    $crate::model::store::contract::$promise::$case(&log).await.unwrap();
                }
            )*
        }
    };
}
