//! What a host measures of itself and of its links. Hosts of one machine take turns.

use std::env;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix::Addr;
use thalweg_core::conductor::Event;
use thalweg_engine::{LoadError, LoadOptions, ProfileError, Shard};
use thalweg_wire::{Bytes, HostRecord, LayerRange, LinkMeasure, Profile};
use tokio::sync::Notify;

use super::conductor::Loader;
use super::network::{ConductorHost, Network};
use crate::host::{Deliver, post};

/// The file whose lock a measuring host holds, so that hosts of one machine do not disturb each
/// other's figures.
const LOCK_FILE: &str = "thalweg-measure.lock";
/// KV blocks for measuring: 16 requests of 256 tokens.
const MEASURE_BLOCKS: u32 = 256;
/// Time for all points of the curves together. Hosts of one machine pay it one after the other.
const MEASURE_TIME: Duration = Duration::from_millis(500);
/// How long new links are left alone, so that those of a starting cluster are measured together.
const LINKS_SETTLE: Duration = Duration::from_millis(100);

/// Waits for this machine's turn to measure; the turn ends when the result is dropped.
///
/// Without the file (a read-only temporary folder) hosts measure at the same time, which makes them
/// look slower than they are but breaks nothing.
fn turn() -> Option<File> {
    let path = env::temp_dir().join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.inspect_err(|error| tracing::warn!(%error, "hosts of this machine measure at once")).ok()
}

/// Measures this host and registers it, then its links whenever new ones came up.
pub(super) async fn everything(
    loader: Loader,
    mut record: HostRecord,
    network: Arc<Network>,
    conductor: Addr<ConductorHost>,
    linked: Arc<Notify>,
) {
    let measured = tokio::task::spawn_blocking(move || profile(&loader)).await;
    match measured {
        Ok(Ok(profile)) => record.profile = profile,
        Ok(Err(error)) => {
            tracing::error!(%error, "this host cannot measure itself; it gets no layers");
            return;
        }
        // The runtime is shutting down.
        Err(_) => return,
    }
    post(&conductor, Deliver(Event::Measured(record)));
    loop {
        linked.notified().await;
        tokio::time::sleep(LINKS_SETTLE).await;
        links(&network, &conductor).await;
    }
}

/// Why a host could not measure itself.
#[derive(Debug, thiserror::Error)]
enum MeasureError {
    /// The layer to measure does not load.
    #[error("the last layer does not load")]
    Load(#[from] LoadError),
    /// The layer was not measured.
    #[error("the last layer was not measured")]
    Profile(#[from] ProfileError),
}

/// Measures the per-layer curves of this host on the model's last layer and head.
fn profile(loader: &Loader) -> Result<Profile, MeasureError> {
    let Loader { source, device, threads, precision, kv_type } = loader;
    let _turn = turn();
    let layers = u32::try_from(source.config().layers).unwrap_or(u32::MAX);
    let last = LayerRange::new(layers.saturating_sub(1), layers).expect("a model has a layer");
    let options = LoadOptions {
        embed: false,
        head: true,
        device: *device,
        kv_blocks: MEASURE_BLOCKS,
        threads: *threads,
        precision: *precision,
        kv_type: *kv_type,
        on_progress: &|_| {},
    };
    let mut shard = Shard::load(source, last, options)?;
    source.release_pages();
    Ok(thalweg_engine::profile(&mut shard, MEASURE_TIME)?)
}

/// Measures the link to every peer and tells the conductor.
async fn links(network: &Network, conductor: &Addr<ConductorHost>) {
    let Ok(_turn) = tokio::task::spawn_blocking(turn).await else { return };
    let Some(transport) = network.transport() else { return };
    let mut measures: Vec<LinkMeasure> = Vec::new();
    for peer in transport.peers() {
        match transport.probe(peer.host).await {
            Ok(measure) => measures.push(measure),
            Err(error) => tracing::debug!(peer = peer.name, %error, "link not measured"),
        }
    }
    post(conductor, Deliver(Event::LinksMeasured(measures)));
}

/// Returns half of the memory that is free now.
///
/// # Errors
///
/// If the system does not say how much is free.
pub fn half_of_free_memory() -> io::Result<Bytes> {
    memory("/proc/meminfo", "MemAvailable").map(|it| Bytes(it.0 / 2))
}

/// Returns a size that a file of `/proc` gives in kB, such as `VmRSS` of `/proc/self/status`.
///
/// # Errors
///
/// If the system has no such file, or the file no such size.
pub fn memory(file: &str, key: &str) -> io::Result<Bytes> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|it| it.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let unknown = || io::Error::other(format!("{file} has no {key}"));
    kib.map(|kib| Bytes(kib * 1024)).ok_or_else(unknown)
}

/// Describes this machine in words.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|it| it.strip_prefix("model name")?.split_once(": "));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let name = model.map_or_else(|| env::consts::ARCH.to_owned(), |it| it.1.trim().to_owned());
    format!("{name}, {cores} cores")
}
