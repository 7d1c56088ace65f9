//! What safety costs: each `ack` and `fsync`, with one sender and with many; the queue on disk against the one in memory.
//!
//! Generator, agent and backend share the machine, so the agent's own CPU time stands beside what was reached.

use std::time::Duration;

use super::Form;
use crate::Fault;
use crate::load::{self, Protocol};
use crate::world::{Outcome, Queue, Setup, World};

/// Measures, and notes a line for each setting.
pub async fn cost(form: Form) -> Result<Outcome, Fault> {
    let window = Queue::Disk(Some(Duration::from_millis(100)));
    let settings = [
        ("on_queue, in memory", Queue::Memory, "on_queue"),
        ("on_queue, on disk", window, "on_queue"),
        ("on_disk, fsync_interval 100ms", window, "on_disk"),
        ("on_disk, fsync", Queue::Disk(None), "on_disk"),
        ("on_export, in memory", Queue::Memory, "on_export"),
        ("on_export, on disk", window, "on_export"),
    ];
    let mut all = Outcome::default();
    for (name, queue, ack) in settings {
        for (senders, points) in [(1, 100), (8, 1000)] {
            let setup = Setup { out: Protocol::Grpc, queue, ack: Some(ack), ..Setup::default() };
            let mut world = World::start(&form.agent, setup).await?;
            let plan = load::Plan { protocol: Protocol::Grpc, senders, points, padding: 60, pause: Duration::ZERO };
            let before = world.agent.cpu()?;
            let load = world.load(&plan)?;
            tokio::time::sleep(form.seconds(2.0, 10.0)).await;
            let mut heard = load.stop().await;
            world.settle(super::DRAIN).await?;
            let cpu = world.agent.cpu()? - before;
            let million = heard.points as f64 / 1e6;
            world.notes.push(format!(
                "{senders} x {points} points: {:.0} requests/s, {:.0} points/s, OK in {:.2} ms (99 %: {:.2} ms), {:.2} s CPU for a million points",
                heard.ok() as f64 / heard.seconds,
                heard.points as f64 / heard.seconds,
                heard.quantile(0.5),
                heard.quantile(0.99),
                cpu / million,
            ));
            all.add(name, world.close(super::DRAIN).await?);
        }
    }
    Ok(all)
}
