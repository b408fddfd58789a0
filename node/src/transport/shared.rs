//! What the tasks of a transport share.

use std::fmt;
use std::sync::{Arc, Mutex};

use quinn::Endpoint;
use thalweg_wire::Hello;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::LinkError;
use super::link::{propagate_panic, run};
use super::peers::{Peers, Ready, Side};
use super::{EnrolHandler, Handlers, LinkEvent, handshake};

/// Handshakes under way at once. Further ones are refused: their senders try again.
const HANDSHAKES_MAX: usize = 64;

/// State behind a transport.
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) hello: Hello,
    pub(super) peers: Peers,
    pub(super) handlers: Handlers,
    pub(super) enrol: Option<EnrolHandler>,
    tasks: Mutex<Option<JoinSet<()>>>,
    runtime: Handle,
}

impl Shared {
    pub(super) fn new(
        endpoint: Endpoint,
        hello: Hello,
        handlers: Handlers,
        enrol: Option<EnrolHandler>,
        runtime: Handle,
    ) -> Arc<Self> {
        let peers = Peers::new(hello.host);
        let tasks = Mutex::new(Some(JoinSet::new()));
        Arc::new(Self { endpoint, hello, peers, handlers, enrol, tasks, runtime })
    }

    /// Runs `task` until it ends or the transport closes. After that it is dropped unrun.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("spawning does not panic");
        let Some(tasks) = tasks.as_mut() else { return };
        while let Some(ended) = tasks.try_join_next() {
            propagate_panic(ended);
        }
        tasks.spawn_on(task, &self.runtime);
    }

    /// Ends every task; no further one starts.
    pub(super) fn stop(&self) {
        self.endpoint.close(LinkError::Stopped.code(), LinkError::Stopped.text().as_bytes());
        drop(self.tasks.lock().expect("spawning does not panic").take());
    }

    /// Runs a link whose greetings were exchanged, now or once its predecessor has ended.
    pub(super) fn install(self: &Arc<Self>, ready: Ready, side: Side) -> Result<(), LinkError> {
        if let Some(ready) = self.peers.install(ready, side)? {
            self.spawn(run_in_turn(Arc::clone(self), ready));
        }
        Ok(())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("hello", &self.hello).finish_non_exhaustive()
    }
}

/// Runs a link, then its successors: one link of a host at a time is up.
async fn run_in_turn(shared: Arc<Shared>, ready: Ready) {
    let mut next = Some(ready);
    while let Some((link, control)) = next {
        let host = link.peer.host;
        run(Arc::clone(&shared), link, control).await;
        next = shared.peers.ended(host);
    }
}

/// Takes in connections until the endpoint closes.
pub(super) async fn accept_all(shared: Arc<Shared>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let for_task = Arc::clone(&shared);
        shared.spawn(async move {
            let peer = incoming.remote_address().to_string();
            match handshake::accept(&for_task, incoming).await {
                Ok(()) => {}
                Err(error) if error.is_duplicate() => {}
                Err(error) => {
                    let reason = error.text();
                    (for_task.handlers.events)(LinkEvent::Refused { peer, reason });
                }
            }
            drop(turn);
        });
    }
}
