use std::ops::ControlFlow;
use std::time::Instant;
use thalweg_planner::cluster::{self, Choice};
use thalweg_planner::flow::Judge;
use thalweg_planner::instance::Instance;
use thalweg_planner::method::Method;
use thalweg_planner::place::coverage::Coverage;
use thalweg_planner::repair::Change;
use thalweg_planner::{Charge, bound};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let stride: usize = a[2].parse().unwrap();
    let instance = if a[1] == "scale" { cluster::generate(a[3].parse().unwrap(), 1).resolve(&Choice::default()).unwrap().instance } else {
        let text = std::fs::read_to_string(format!("../examples/clusters/{}.toml", a[1])).unwrap();
        cluster::parse(&text).unwrap().resolve(&Default::default()).unwrap().instance };
    show(&instance, "old");
    for host in (0..instance.hosts.len()).step_by(stride) {
        let after = Change::HostLost { host }.apply(&instance);
        show(&after, &format!("{host} {}", instance.class(host).name));
    }
}
fn show(instance: &Instance, name: &str) {
    let t = Instant::now();
    let b = bound::prove(instance, Charge::Full).value;
    let tb = t.elapsed().as_secs_f64();
    let mut flows = vec![];
    let t = Instant::now();
    for seed in 1..=2 {
        let f = Coverage.place(instance, seed, &mut |_| ControlFlow::Continue(()));
        flows.push(f.map_or(0.0, |it| Judge::new(instance).value(&it.placement)));
    }
    println!("{name} bound {b:.1} ({tb:.3} s) full {flows:.1?} ratio {:.4} {:.4} ({:.1} s)", flows[0] / b, flows[1] / b, t.elapsed().as_secs_f64());
}
