//! Why there is no plan: which layers, how much memory, which policy.

use thalweg_planner::cluster::Resolved;
use thalweg_planner::instance::Instance;
use thalweg_planner::{flow, survive};
use thalweg_wire::LayerRange;

use crate::cli::advice::Advice;

/// Regions named in a reason at most.
const REGIONS_NAMED_MAX: usize = 4;

/// Refuses what needs no search to see.
///
/// # Errors
///
/// If no placement can carry anything.
pub(super) fn refuse(resolved: &Resolved) -> Result<(), Advice> {
    match reason(resolved) {
        Some((why, next)) => Err(infeasible(resolved, &why).hint(next)),
        None => Ok(()),
    }
}

/// A search that found nothing, although nothing obvious is in the way.
pub(super) fn none_found(resolved: &Resolved, method: &str) -> Advice {
    let instance = &resolved.instance;
    let held = instance.layers_held_max();
    let why = format!(
        "`{method}` found none; the hosts hold up to {held} layers, the model has {}",
        instance.layers
    );
    let advice = infeasible(resolved, &why);
    if flow::links_bind(instance) {
        advice.hint("Links or policy may be in the way: check that regions reach each other.")
    } else {
        advice.hint("Try `--method coverage`, or more `--seconds`.")
    }
}

/// No placement was found that survives.
pub(super) fn fragile(instance: &Instance, alpha: f64) -> Advice {
    let percent = alpha * 100.0;
    let (layers, held) = (u64::from(instance.layers), instance.layers_held_max());
    if alpha > 0.0 && held < 2 * layers {
        let missing = 2 * layers - held;
        return Advice::plain(format!(
            "no plan keeps {percent:.0} % of its flow after the loss of any host by new weights \
             alone: every layer would have to be on two hosts, {} in all, and all hosts together \
             hold {held}",
            2 * layers
        ))
        .hint(format!(
            "Add hosts or memory for {missing} layers more ({:.1} GB of weights); or leave \
             `--survive` out: `--sensitivity` says what a repair brings back.",
            missing as f64 * instance.layer_bytes / 1e9
        ));
    }
    let limit = survive::limit(instance, alpha);
    Advice::plain(format!(
        "no plan was found that keeps {percent:.0} % of its flow after the loss of any host; none \
         of them can carry more than {limit:.1} tokens/s"
    ))
    .hint("Lower `--survive`, add hosts, or give more `--seconds`.")
}

fn infeasible(resolved: &Resolved, why: &str) -> Advice {
    let advice = Advice::plain(format!("{} cannot be placed: {why}", resolved.model_name));
    resolved.notes.iter().fold(advice, |advice, note| advice.hint(format!("Note: {note}.")))
}

/// The reason, and what to try.
fn reason(resolved: &Resolved) -> Option<(String, String)> {
    let instance = &resolved.instance;
    let layers = u64::from(instance.layers);
    if instance.hosts.is_empty() {
        let next = "Allow its hosts in [policy], or add hosts.".to_owned();
        return Some(("policy leaves no host for it".to_owned(), next));
    }
    let held = instance.layers_held_max();
    if held < layers {
        let missing = layers - held;
        let why = format!(
            "it has {layers} layers, all hosts together hold {held}; layers {held}-{} \
             ({missing} of them, {:.1} GB of weights) fit nowhere",
            layers - 1,
            missing as f64 * instance.layer_bytes / 1e9,
        );
        return Some((why, "Add hosts or memory, or choose a smaller model.".to_owned()));
    }
    end(instance, End::First).or_else(|| end(instance, End::Last)).or_else(|| apart(instance))
}

/// Whether the hosts fall into groups that do not reach each other, none of which holds the model.
fn apart(instance: &Instance) -> Option<(String, String)> {
    let groups = groups(instance);
    let held = |group: &Vec<usize>| -> u64 {
        group.iter().map(|&it| u64::from(instance.class(it).rates.count_max())).sum()
    };
    let largest = groups.iter().max_by_key(|it| held(it))?;
    let most = held(largest);
    if most >= u64::from(instance.layers) {
        return None;
    }
    let mut regions: Vec<&str> =
        largest.iter().map(|&it| instance.regions[instance.hosts[it].region].as_str()).collect();
    regions.dedup();
    regions.truncate(REGIONS_NAMED_MAX);
    let why = format!(
        "it has {} layers, and no hosts that reach each other hold them: of {} groups without a \
         link between them the largest, {} in {}, holds {most}",
        instance.layers,
        groups.len(),
        if largest.len() == 1 { "1 host".to_owned() } else { format!("{} hosts", largest.len()) },
        regions.join(", "),
    );
    Some((why, "Join them in [network]: default, region_links or links.".to_owned()))
}

/// Hosts that reach each other, over any number of hops and in any direction.
fn groups(instance: &Instance) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..instance.hosts.len()).collect();
    let mut groups = Vec::new();
    while let Some(first) = left.pop() {
        let mut group = vec![first];
        let mut seen = 0;
        while let Some(&near) = group.get(seen) {
            seen += 1;
            let joined = |far: usize| {
                instance.wire(near, far).is_some() || instance.wire(far, near).is_some()
            };
            let (reached, others) = left.into_iter().partition(|&far| joined(far));
            left = others;
            group.extend::<Vec<usize>>(reached);
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups
}

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// Whether some host may hold the layer at this end, can, and is linked to the gateways.
fn end(instance: &Instance, end: End) -> Option<(String, String)> {
    let network = &instance.network;
    let (name, layer, key, wires) = match end {
        End::First => ("first", 0, "first_stage_hosts", &network.enter),
        End::Last => {
            ("last", instance.layers.saturating_sub(1), "last_stage_hosts", &network.leave)
        }
    };
    let allowed = |host: &usize| match end {
        End::First => instance.hosts[*host].may_be_first,
        End::Last => instance.hosts[*host].may_be_last,
    };
    let fits = |host: &usize| {
        let most = instance.class(*host).rates.count_max().min(instance.layers);
        (1..=most).any(|count| {
            let first = match end {
                End::First => 0,
                End::Last => instance.layers - count,
            };
            let range = LayerRange::new(first, first + count);
            range.is_ok_and(|it| instance.rate(*host, it) > 0.0)
        })
    };
    let linked = |host: &usize| wires.get(*host).is_some_and(Option::is_some);
    let hosts = || 0..instance.hosts.len();
    if !hosts().any(|it| allowed(&it)) {
        let why = format!("policy lets no host hold the {name} layer, layer {layer}");
        return Some((why, format!("Name hosts of this cluster in policy.{key}.")));
    }
    if !hosts().any(|it| fits(&it)) {
        let why = format!("layer {layer} fits on no host that policy lets hold the {name} layer");
        return Some((why, format!("Add hosts with more memory to policy.{key}.")));
    }
    if !hosts().any(|it| fits(&it) && linked(&it)) {
        let why = format!("no host that can hold layer {layer} has a link to the gateway");
        return Some((why, "Set network.gateway, or a link of such a host to \"gateway\".".into()));
    }
    None
}
