//! The whole wire, as it stands in docs/PROTOCOL.md, over both fronts: each script in tests/fixtures/wire says what
//! goes over the sockets of a cluster of two nodes, frame by frame.
//!
//! A script's lines, in order:
//!
//! - `limits NAME VALUE` sets a limit of the nodes; before anything else.
//! - `fill NAME COUNT` binds a text of so many `x`.
//! - `connect CLIENT on NODE` opens a connection; `user CLIENT on NODE` also makes an account of that name and logs in,
//!   which binds `$CLIENT` and `$CLIENT_token`; `device CLIENT of USER on NODE` logs a user in on one more connection.
//! - `CLIENT> FRAME` sends, to the letter but for `$names`, which must be bound.
//! - `CLIENT< FRAME` is the next frame that comes: the same fields and values, in whatever order of fields. `$name`
//!   stands for a value and binds it where it is not bound yet, `$_` for any value, `#3` for an array of three, and a
//!   last field `...` allows more fields.
//! - `CLIENT<? FRAME` lines that follow each other may come in any order.
//! - `CLIENT quits` ends the connection from the client's side; `CLIENT< end CODE` is its end from the server's, which
//!   on WebSocket carries the code.
//! - `broker cut`, `broker heal`, `stop NODE`, `drain NODE`.
//! - `each N FROM TO`, up to `done`: the lines between, once for each number, which stands where `<N>` is.
//!
//! At the end everybody still connected must have nothing left to hear.

mod complete;
mod frame;
mod play;
mod script;
mod socket;
mod websocket;

/// Plays each script over TCP and over WebSocket.
macro_rules! scripts {
    ($($script:ident)*) => {
        /// The scripts that are played.
        const SCRIPTS: &[&str] = &[$(stringify!($script)),*];

        mod over_tcp {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $script() {
                    super::play::play(stringify!($script), super::socket::Front::Tcp).await;
                }
            )*
        }

        mod over_websocket {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $script() {
                    super::play::play(stringify!($script), super::socket::Front::WebSocket).await;
                }
            )*
        }
    };
}

scripts! {
    a_block_refuses_messages_and_friendship
    a_client_too_eager_is_refused
    a_group_changes_by_entries_that_all_members_see
    a_guest_may_only_register_and_log_in
    a_login_brings_what_was_missed
    a_login_without_end_brings_a_thousand_messages
    a_message_reaches_every_session_but_its_own
    a_new_password_ends_the_other_sessions
    a_node_that_drains_sends_its_sessions_to_the_others
    a_node_that_stops_sends_its_sessions_away
    a_token_is_good_on_every_node_until_it_is_revoked
    accounts_have_unique_names_and_passwords
    conversations_come_in_pages
    cursors_move_forward_and_are_told
    friends_ask_agree_and_part
    history_comes_in_pages
    other_devices_hear_of_conversations
    people_and_groups_are_found_by_name
    the_broker_going_and_coming_is_told
    three_bad_frames_in_a_row_close
    too_large_is_refused_and_endless_closes
    typing_is_told_and_not_stored
    who_fails_to_log_in_too_often_is_closed
    who_has_too_many_sessions_is_closed
    who_never_logs_in_is_closed
    who_says_nothing_is_closed
}
