//! Gives a [`Machine`] a mailbox, a clock and an arbiter thread.

use std::sync::Arc;
use std::time::Instant;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, SpawnHandle};
use thalweg_core::machine::{Machine, Time};
use thalweg_sim::replay::{Did, Recorded};

use crate::journal::{Journal, Redact};

/// Events an actor may be behind by before [`post`] refuses. Credits keep it far below.
pub const MAILBOX_EVENTS_MAX: usize = 16_384;

/// The clock of a process: all hosts of a process share one, so that their journals line up.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts the clock at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the start.
    pub fn now(self) -> Time {
        self.0.elapsed()
    }
}

/// Carries out what a machine decides: the only place where its effects touch the world.
pub trait Perform<M: Machine> {
    /// Does `effect`. Must not block; long work goes to a thread that answers with an event.
    fn perform(&mut self, effect: M::Effect);

    /// Looks at the machine after its effects were carried out, to publish what others show.
    fn settled(&mut self, _machine: &M) {}
}

/// An event on its way to a [`Host`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver<E>(pub E);

/// Something for a [`Host`]'s world that its machine need not know, such as a tensor behind a
/// handle. Arrives before the event sent after it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Entrust<T>(pub T);

/// Takes what is [`Entrust`]ed to a world.
pub trait Keep<T> {
    /// Keeps `thing` until an effect asks for it.
    fn keep(&mut self, thing: T);
}

/// The actor that runs one machine: events in, effects out, one timer.
#[derive(Debug)]
pub struct Host<M, P> {
    machine: M,
    world: P,
    clock: Clock,
    journal: Arc<Journal>,
    timer: Option<SpawnHandle>,
}

impl<M, P> Host<M, P>
where
    M: Recorded<Event: Redact> + Unpin + 'static,
    P: Perform<M> + Unpin + 'static,
{
    /// Creates the host.
    pub fn new(machine: M, world: P, clock: Clock, journal: Arc<Journal>) -> Self {
        Self { machine, world, clock, journal, timer: None }
    }

    /// Lets the machine hear of an event, or of the time if there is none.
    fn hear(&mut self, event: Option<M::Event>, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        self.journal.seen::<M>(now, event.as_ref());
        match event {
            Some(event) => self.machine.handle(now, event),
            None => self.machine.handle_timeout(now),
        }
        let did = self.settle(ctx);
        self.journal.did(M::PART, did);
    }

    /// Carries out every pending effect, then arms the timer for the machine's next deadline.
    /// Returns the effects for the journal, if it wants them.
    fn settle(&mut self, ctx: &mut Context<Self>) -> Option<Did> {
        let mut did = self.journal.effects(M::PART);
        while let Some(effect) = self.machine.poll_effect() {
            if let Some(did) = &mut did {
                did.push(&effect);
            }
            self.world.perform(effect);
        }
        self.world.settled(&self.machine);
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = self.machine.next_timeout().map(|deadline| {
            let delay = deadline.saturating_sub(self.clock.now());
            ctx.run_later(delay, |host, ctx| {
                host.timer = None;
                host.hear(None, ctx);
            })
        });
        did
    }
}

impl<M, P> Actor for Host<M, P>
where
    M: Recorded<Event: Redact> + Unpin + 'static,
    P: Perform<M> + Unpin + 'static,
{
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_EVENTS_MAX);
        self.settle(ctx);
    }
}

impl<M, P> Handler<Deliver<M::Event>> for Host<M, P>
where
    M: Recorded<Event: Redact + Send> + Unpin + 'static,
    P: Perform<M> + Unpin + 'static,
{
    type Result = ();

    fn handle(&mut self, Deliver(event): Deliver<M::Event>, ctx: &mut Self::Context) {
        self.hear(Some(event), ctx);
    }
}

impl<M, P, T> Handler<Entrust<T>> for Host<M, P>
where
    M: Recorded<Event: Redact> + Unpin + 'static,
    P: Perform<M> + Keep<T> + Unpin + 'static,
    T: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, Entrust(thing): Entrust<T>, _ctx: &mut Self::Context) {
        self.world.keep(thing);
    }
}

/// Puts a message into an actor's mailbox without waiting.
///
/// A full mailbox drops the message and says so: every protocol on top notices a missing frame
/// (a gap, a timeout) and recovers, while waiting here could block the network.
pub fn post<A, T>(actor: &Addr<A>, message: T)
where
    A: Actor + Handler<T>,
    A::Context: ToEnvelope<A, T>,
    T: Message<Result = ()> + Send + 'static,
{
    if let Err(refused) = actor.try_send(message) {
        tracing::error!(%refused, actor = std::any::type_name::<A>(), "mailbox refused a message");
    }
}
