//! Asks the cluster for one token, to know whether it answers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use thalweg_wire::{Open, Sampling};

use super::Api;
use crate::generate::{Submission, TokenEvent};

/// How long an answer counts. Balancers ask every few seconds, each of them.
const FRESH: Duration = Duration::from_secs(2);
/// How long a probe may take. Longer than any decode step over a WAN, shorter than a balancer's
/// patience.
const PROBE_WAIT: Duration = Duration::from_secs(8);

/// What a probe found: why the cluster is not ready, if it is not.
pub(super) type Finding = Result<(), String>;

/// The latest finding.
#[derive(Default)]
pub(super) struct Probe {
    latest: Mutex<Option<(Instant, Finding)>>,
}

impl Probe {
    /// Returns what a probe found within the last moments, or what a new one finds.
    pub(super) async fn run(&self, api: &Api) -> Finding {
        if let Some(finding) = self.fresh() {
            return finding;
        }
        let finding = match tokio::time::timeout(PROBE_WAIT, one_token(api)).await {
            Ok(finding) => finding,
            Err(_) => Err(format!("no token within {} s", PROBE_WAIT.as_secs())),
        };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), finding.clone()));
        finding
    }

    fn fresh(&self) -> Option<Finding> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, finding) = latest.as_ref()?;
        (at.elapsed() < FRESH).then(|| finding.clone())
    }
}

async fn one_token(api: &Api) -> Finding {
    let prompt = api.text.encode("ready", true).map_err(|error| error.to_string())?;
    let sampling = Sampling { temperature: 0.0, max_tokens: 1, ..Sampling::default() };
    let priority = Open::PRIORITY_DEFAULT;
    let submission = Submission { prompt, sampling, priority, tenant: 0 };
    let mut generation = api.gateway.submit(submission).map_err(|error| error.to_string())?;
    match generation.next().await {
        Some(TokenEvent::Token { .. }) => Ok(()),
        Some(TokenEvent::Rejected(rejection)) => Err(rejection.to_string()),
        None => Err("the gateway is gone".to_owned()),
    }
}
