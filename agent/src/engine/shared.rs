//! Sharing of reads that wait: callers who ask the same while the engine is busy with that very
//! question share the **next** call, never one that began before they arrived, so that everyone
//! still sees his own writes. Used by `Engine` for its short reads; knows nothing of Docker.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex},
};

use dockctl_api::error::{reason, status};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::lock;

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// A key is present while a call for it runs; its value is the batch that waits for the next call.
type Slots<K, T> = Arc<Mutex<HashMap<K, Option<Batch<T>>>>>;

/// Shares the answers of type `T` to questions of type `K`.
pub(super) struct Shared<K, T> {
    slots: Slots<K, T>,
}

struct Batch<T> {
    work: Work<T>,
    waiters: Vec<oneshot::Sender<Result<T, Status>>>,
}

impl<K, T> Shared<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { slots: Slots::default() }
    }

    /// The answer to `key` by a call that begins now or later. `work` is that call; it is dropped
    /// unused when another waiting caller brought one. Dropping the returned future is safe at any
    /// time: others go on waiting, and the call ends when nobody waits for it any more.
    pub(super) fn call<W>(
        &self,
        key: K,
        work: W,
    ) -> impl Future<Output = Result<T, Status>> + Send + use<K, T, W>
    where
        W: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let (tx, rx) = oneshot::channel();
        {
            let mut slots = lock(&self.slots);
            match slots.get_mut(&key) {
                None => {
                    slots.insert(key.clone(), None);
                    let batch = Batch { work: Box::pin(work), waiters: vec![tx] };
                    // Its own task, so that a leader who hangs up does not strand the others.
                    tokio::spawn(run(self.slots.clone(), key, batch));
                }
                Some(Some(next)) => next.waiters.push(tx),
                Some(next) => *next = Some(Batch { work: Box::pin(work), waiters: vec![tx] }),
            }
        }
        async move {
            rx.await.unwrap_or_else(|_| {
                Err(status(Code::Internal, reason::INTERNAL, "a shared engine call broke off", &[]))
            })
        }
    }
}

async fn run<K: Eq + Hash, T: Clone>(slots: Slots<K, T>, key: K, first: Batch<T>) {
    let mut running = Running { slots, key, done: false };
    let mut batch = first;
    loop {
        batch.run().await;
        match running.next() {
            Some(next) => batch = next,
            None => return,
        }
    }
}

impl<T: Clone> Batch<T> {
    async fn run(self) {
        let Self { work, mut waiters } = self;
        let result = tokio::select! {
            biased;
            () = all_gone(&mut waiters) => return,
            result = work => result,
        };
        let last = waiters.pop();
        for waiter in waiters {
            // A waiter that has hung up wants no answer.
            let _ = waiter.send(result.clone());
        }
        // The last one gets the original, so that a lone caller owns the answer.
        last.map(|waiter| waiter.send(result));
    }
}

async fn all_gone<T>(waiters: &mut [oneshot::Sender<T>]) {
    for waiter in waiters {
        waiter.closed().await;
    }
}

/// Keeps the key's slot while calls run, and frees it if one panics: later callers start afresh,
/// those who wait get an error.
struct Running<K: Eq + Hash, T> {
    slots: Slots<K, T>,
    key: K,
    done: bool,
}

impl<K: Eq + Hash, T> Running<K, T> {
    fn next(&mut self) -> Option<Batch<T>> {
        let mut slots = lock(&self.slots);
        let next = slots.get_mut(&self.key).and_then(Option::take);
        if next.is_none() {
            slots.remove(&self.key);
            self.done = true;
        }
        next
    }
}

impl<K: Eq + Hash, T> Drop for Running<K, T> {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.slots).remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Semaphore, watch};

    use super::*;

    /// An engine whose calls are numbered by when they begin and end when told.
    struct Engine {
        begun: watch::Sender<usize>,
        gate: Semaphore,
        dropped: AtomicUsize,
    }

    impl Engine {
        fn new() -> Arc<Self> {
            let begun = watch::Sender::new(0);
            Arc::new(Self { begun, gate: Semaphore::new(0), dropped: AtomicUsize::new(0) })
        }

        async fn call(self: Arc<Self>) -> Result<usize, Status> {
            struct Dropped(Arc<Engine>, bool);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    if !self.1 {
                        self.0.dropped.fetch_add(1, Ordering::SeqCst);
                        self.0.begun.send_modify(|_| {});
                    }
                }
            }
            let mut guard = Dropped(self.clone(), false);
            let mut number = 0;
            self.begun.send_modify(|n| {
                *n += 1;
                number = *n;
            });
            self.gate.acquire().await.unwrap().forget();
            guard.1 = true;
            Ok(number)
        }

        async fn has_begun(&self, calls: usize) {
            self.begun.subscribe().wait_for(|n| *n >= calls).await.unwrap();
        }
    }

    fn ask(
        shared: &Arc<Shared<&'static str, usize>>,
        engine: &Arc<Engine>,
    ) -> tokio::task::JoinHandle<Result<usize, Status>> {
        let (shared, engine) = (shared.clone(), engine.clone());
        tokio::spawn(async move { shared.call("list", engine.call()).await })
    }

    async fn waiting(shared: &Shared<&'static str, usize>, callers: usize) {
        loop {
            let waiters = lock(&shared.slots)
                .get("list")
                .and_then(|next| next.as_ref().map(|batch| batch.waiters.len()));
            if waiters.unwrap_or(0) == callers {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_comes_during_a_call_shares_the_next_one() {
        let (shared, engine) = (Arc::new(Shared::new()), Engine::new());
        let first = ask(&shared, &engine);
        engine.has_begun(1).await;
        let late: Vec<_> = (0..5).map(|_| ask(&shared, &engine)).collect();
        waiting(&shared, 5).await;
        engine.gate.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap(), 1);
        for caller in late {
            assert_eq!(caller.await.unwrap().unwrap(), 2, "never a call begun before it came");
        }
        assert_eq!(*engine.begun.borrow(), 2);
        assert!(lock(&shared.slots).is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_hangs_up_strands_nobody() {
        let (shared, engine) = (Arc::new(Shared::new()), Engine::new());
        let first = ask(&shared, &engine);
        engine.has_begun(1).await;
        let second = ask(&shared, &engine);
        waiting(&shared, 1).await;
        let third = ask(&shared, &engine);
        waiting(&shared, 2).await;
        first.abort();
        second.abort();
        engine.gate.add_permits(2);
        assert_eq!(third.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_ends() {
        let (shared, engine) = (Arc::new(Shared::new()), Engine::new());
        let only = ask(&shared, &engine);
        engine.has_begun(1).await;
        only.abort();
        let mut changed = engine.begun.subscribe();
        while engine.dropped.load(Ordering::SeqCst) == 0 {
            changed.changed().await.unwrap();
        }
        engine.gate.add_permits(1);
        assert_eq!(ask(&shared, &engine).await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn errors_are_shared_and_panics_do_not_wedge() {
        let shared: Arc<Shared<u8, usize>> = Arc::new(Shared::new());
        let failed = shared.call(1, async { Err(Status::not_found("gone")) }).await;
        assert_eq!(failed.unwrap_err().message(), "gone");
        let broken = shared.call(1, async { panic!("on purpose") }).await;
        assert_eq!(broken.unwrap_err().code(), Code::Internal);
        assert_eq!(shared.call(1, async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn different_questions_do_not_wait_for_each_other() {
        let shared: Arc<Shared<u8, usize>> = Arc::new(Shared::new());
        let stuck = {
            let shared = shared.clone();
            tokio::spawn(async move { shared.call(1, std::future::pending()).await })
        };
        assert_eq!(shared.call(2, async { Ok(2) }).await.unwrap(), 2);
        stuck.abort();
    }
}
