//! Runs a scenario file, and prints its outcome as JSON.
//!
//! ```sh
//! cargo run --release -p thalweg-sim --example scenario -- examples/scenarios/single24-offline.toml
//! ```

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use thalweg_sim::scenario::{Files, parse};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("name a scenario file")?;
    let path = Path::new(&name);
    let folder = path.parent().unwrap_or(Path::new("."));
    let read = |file: &Path| -> Result<String, Box<dyn Error>> {
        Ok(fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?)
    };
    let file = parse(&read(path)?)?;
    let beside = |name: Option<&str>| name.map(|it| read(&folder.join(it))).transpose();
    let cluster = read(&folder.join(&file.cluster))?;
    let placement = beside(file.placement_file())?;
    let lengths = beside(file.lengths_file())?;
    let arrivals = beside(file.arrivals_file())?;
    let scenario = file.resolve(Files {
        cluster: &cluster,
        placement: placement.as_deref(),
        lengths: lengths.as_deref(),
        arrivals: arrivals.as_deref(),
    })?;
    let placed = scenario.place(&mut |_| ControlFlow::Continue(()))?;
    println!("{}", scenario.run(&placed)?.to_json());
    Ok(())
}
