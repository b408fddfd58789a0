//! The machine types and models that come with the planner.

use super::file::ClusterFile;

/// Parts of the catalogue: cluster files without a cluster.
const PARTS: [&str; 3] = [
    include_str!("../../instances/machines.toml"),
    include_str!("../../instances/llama-1-30b.toml"),
    include_str!("../../instances/llama-2-70b.toml"),
];

/// Machine types, models and profiles known without being told.
pub(super) fn catalogue() -> ClusterFile {
    let mut all = ClusterFile::default();
    for part in PARTS {
        let part: ClusterFile = toml::from_str(part).expect("tests parse the catalogue");
        all.machines.extend(part.machines);
        all.models.extend(part.models);
        all.profiles.extend(part.profiles);
    }
    all
}

/// The file's own machine types, models and profiles, and those of the catalogue beside them.
pub(super) fn with_catalogue(file: &ClusterFile) -> ClusterFile {
    let mut all = catalogue();
    let own = |model: &str, machine: &str| {
        file.profiles.iter().any(|it| it.model == model && it.machine == machine)
    };
    all.profiles.retain(|it| !own(&it.model, &it.machine));
    all.profiles.extend(file.profiles.iter().cloned());
    all.machines.extend(file.machines.iter().map(|(name, it)| (name.clone(), *it)));
    all.models.extend(file.models.iter().map(|(name, it)| (name.clone(), *it)));
    all
}
