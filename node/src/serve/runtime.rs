//! A running host: transport, API and consensus around the actors, in the order they need.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Addr;
use thalweg_certs::Credentials;
use thalweg_engine::ModelSource;
use thalweg_wire::{Bytes, Hello, HostId, HostRecord, ModelShape};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::board::Board;
use super::conductor::Loader;
use super::network::{ConductorHost, Network};
use super::stage::Load;
use super::{Prepared, actors, enrol, group, life, links, measure};
use crate::cli::advice::Advice;
use crate::config::HostConfig;
use crate::consensus::Consensus;
use crate::http::{Api, ApiConfig, ApiKeys, ModelText};
use crate::journal::wall_clock_us;
use crate::metrics::Metrics;
use crate::transport::{PathBudget, Transport, TransportConfig};

/// Round trip assumed between voters where none is configured and the host is not on loopback.
const WAN_ROUND_TRIP: Duration = Duration::from_millis(160);

/// Filled in once consensus has started.
pub(super) type Seat = Arc<OnceLock<Arc<Consensus>>>;

/// What the parts of a host share.
pub(super) struct Node {
    pub me: HostId,
    pub incarnation: u64,
    pub config: HostConfig,
    pub region: String,
    pub shape: ModelShape,
    pub source: Arc<ModelSource>,
    pub memory: Bytes,
    pub threads: usize,
    pub round_trip: Duration,
    pub board: Arc<Board>,
    pub network: Arc<Network>,
    pub load: Arc<Load>,
    pub seat: Seat,
    pub metrics: Arc<Metrics>,
    /// Told whenever a link comes up.
    pub linked: Arc<Notify>,
}

/// Runs the host until the process is told to stop.
pub(super) async fn run(prepared: Prepared) -> Result<(), Advice> {
    let (node, credentials) = Node::new(prepared);
    let (conductor, journal) = actors::start(&node)?;
    let transport = node.open_transport(credentials)?;
    let stop = Arc::new(Notify::new());
    let serving = node.open_api(Arc::clone(&stop)).await?;
    let consensus = group::join(&node, &conductor).await?;
    let beating = tokio::spawn(life::beat(life::Pulse {
        me: node.me,
        network: Arc::clone(&node.network),
        load: Arc::clone(&node.load),
        board: Arc::clone(&node.board),
        metrics: Arc::clone(&node.metrics),
    }));
    let measuring = tokio::spawn(node.measure(&transport, conductor));
    wait_for_stop().await;
    tracing::info!("stopping");
    stop.notify_one();
    [beating, measuring].iter().for_each(tokio::task::JoinHandle::abort);
    transport.close().await;
    consensus.shutdown().await;
    serving.abort();
    journal.close();
    Ok(())
}

impl Node {
    fn new(prepared: Prepared) -> (Self, Credentials) {
        let Prepared { config, credentials, source, shape, memory, threads } = prepared;
        let me = HostId::of(&config.name);
        let identity = credentials.identity().clone();
        let round_trip = match config.cluster.round_trip_ms {
            Some(ms) => Duration::from_millis(ms),
            None if config.bind.ip().is_loopback() => Duration::from_millis(1),
            None => WAN_ROUND_TRIP,
        };
        let board = Board::new(identity.cluster, config.name.clone(), shape.clone());
        let board = Arc::new(board);
        let metrics = Metrics::new(&shape.name, &config.name);
        let node = Self {
            me,
            incarnation: wall_clock_us(),
            config,
            region: identity.region,
            shape,
            source,
            memory,
            threads,
            round_trip,
            network: Arc::new(Network::new(me, Arc::clone(&board))),
            board,
            load: Arc::default(),
            seat: Seat::default(),
            metrics,
            linked: Arc::default(),
        };
        (node, credentials)
    }

    /// Binds the UDP port, says where, and dials the seeds.
    fn open_transport(&self, credentials: Credentials) -> Result<Arc<Transport>, Advice> {
        let config = &self.config;
        let hello = Hello {
            host: self.me,
            name: config.name.clone(),
            incarnation: self.incarnation,
            model: self.shape.model,
            address: config.advertise.clone().unwrap_or_default(),
        };
        let path = PathBudget { round_trip: self.round_trip, ..PathBudget::of(config.bind) };
        let settings = TransportConfig { bind: config.bind, hello, credentials, path };
        let enrolment = enrol::service(config.cluster.authority.as_deref(), &self.seat)?;
        let events = links::events(&self.network, &self.linked);
        let transport = Transport::bind(
            settings,
            events,
            links::calls(&self.seat, &self.network),
            enrolment,
        )
        .map_err(|source| Advice::new(format!("cannot listen on {}", config.bind), source))?;
        self.network.set_transport(Arc::clone(&transport));
        publish(&config.data, "address", &transport.local_addr().to_string())?;
        for seed in &config.cluster.seeds {
            let (name, address) = seed.split_once('@').ok_or_else(|| {
                Advice::plain(format!("seed `{seed}` has no name"))
                    .hint("Write seeds as `name@address:port`.")
            })?;
            transport.connect(name, address);
        }
        Ok(transport)
    }

    /// Starts the HTTP API, and says where.
    async fn open_api(
        &self,
        stop: Arc<Notify>,
    ) -> Result<tokio::task::JoinHandle<std::io::Result<()>>, Advice> {
        let bind = self.config.api.bind;
        let failed = |source| {
            Advice::new(format!("the API cannot listen on {bind}"), source)
                .hint("Choose another port with `--port`; 0 takes any.")
        };
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let text = ModelText::from_source(&self.source)
            .map_err(|source| Advice::new("the model's tokenizer cannot be used", source))?;
        let models = match self.config.api.served_model_name.as_slice() {
            [] => vec![self.shape.name.clone()],
            names => names.to_vec(),
        };
        let api = Api::new(ApiConfig {
            gateway: links::gateway(&self.network),
            text: Arc::new(text),
            models,
            context_tokens: self.shape.context_tokens,
            keys: ApiKeys::new(self.config.api.keys.iter().cloned()),
            status: links::status(&self.board, &self.network),
            metrics: Arc::clone(&self.metrics),
        });
        publish(&self.config.data, "api", &address.to_string())?;
        tracing::info!(name = self.config.name, api = %address, "host is up");
        Ok(tokio::spawn(api.serve(listener, async move { stop.notified().await })))
    }

    /// What loading layers needs.
    pub(super) fn loader(&self) -> Loader {
        Loader {
            source: Arc::clone(&self.source),
            device: self.config.device,
            threads: self.threads,
            precision: self.config.weights,
            kv_type: self.config.kv,
        }
    }

    /// Measures this host, registers it, then measures its links whenever new ones come up.
    fn measure(
        &self,
        transport: &Transport,
        conductor: Addr<ConductorHost>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let advertised = self.config.advertise.clone();
        let record = HostRecord {
            host: self.me,
            name: self.config.name.clone(),
            region: self.region.clone(),
            address: advertised.unwrap_or_else(|| transport.local_addr().to_string()),
            incarnation: self.incarnation,
            memory: self.memory,
            machine: measure::machine(),
            profile: thalweg_wire::Profile::default(),
        };
        let (network, linked) = (Arc::clone(&self.network), Arc::clone(&self.linked));
        measure::everything(self.loader(), record, network, conductor, linked)
    }
}

/// Writes one of this host's addresses into its data folder, whole or not at all.
fn publish(data: &Path, file: &str, address: &str) -> Result<(), Advice> {
    let (path, draft) = (data.join(file), data.join(format!("{file}.new")));
    let written = fs::write(&draft, address).and_then(|()| fs::rename(&draft, &path));
    written.map_err(|e| Advice::new(format!("cannot write `{}`", path.display()), e))
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn wait_for_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("a handler can be installed once");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
