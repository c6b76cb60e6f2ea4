//! Turns many concurrent calls into few calls with many questions.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

/// Calls that wait; whoever finds it full waits too.
const QUEUE: usize = 4096;

/// The way to a task that answers questions in batches. What queues up while one batch is being answered makes the
/// next, so that a batch is as large as the load asks for and a single question does not wait.
#[derive(Debug)]
pub(super) struct Batcher<Q, A> {
    queue: mpsc::Sender<(Q, oneshot::Sender<A>)>,
}

impl<Q: Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// Starts the task. `answer` gets at most `most` questions and returns as many answers, in order.
    pub(super) fn spawn<F, Fut>(most: usize, answer: F) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<A>> + Send,
    {
        let (queue, mut calls) = mpsc::channel::<(Q, oneshot::Sender<A>)>(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while calls.recv_many(&mut batch, most).await > 0 {
                let (questions, callers): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
                for (answer, caller) in answer(questions).await.into_iter().zip(callers) {
                    drop(caller.send(answer));
                }
            }
        });
        Self { queue }
    }

    /// Asks and waits for the answer. `None`: the task is gone.
    pub(super) async fn ask(&self, question: Q) -> Option<A> {
        let (caller, answer) = oneshot::channel();
        self.queue.send((question, caller)).await.ok()?;
        answer.await.ok()
    }
}
