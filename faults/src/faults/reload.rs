//! SIGHUP under load, with bad configs among the good ones.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{DRAIN, Form, OUT};
use crate::Fault;
use crate::agent::PATIENCE;
use crate::load;
use crate::world::{Outcome, Queue, Setup, World};

/// What the agent logs of a reload that was done, and of one that was not.
const DONE: &str = "reloaded";
const NOT: &str = "the old one goes on";

/// A reload waits for nobody: not for a backend, not for requests under way, for which a receiver has 5 s.
const TOO_LONG: Duration = Duration::from_secs(4);

/// Changes of the exporter, the receiver and the chain by turns, two in five of them wrong: a mistake, and a port that is taken.
pub async fn reloads(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    for (name, out) in OUT {
        for (kind, queue) in [("memory", Queue::Memory), ("disk", Queue::Disk(Some(Duration::from_millis(100))))] {
            let setup = Setup {
                out,
                queue,
                sending_queue: "num_consumers: 4".to_owned(),
                receiver: "admission: {max_connections: 100}".to_owned(),
                processors: vec![("batch", "timeout: 50ms, send_batch_size: 1000".to_owned())],
                ..Setup::default()
            };
            let mut world = World::start(&form.agent, setup).await?;
            let load = world.load(&load::Plan { protocol: out, ..load::Plan::default() })?;
            let rounds = form.pick(8, 500);
            let (good, taken) = (world.config()?, world.relay.port.to_string());
            let (mut longest, mut bad) = (Duration::ZERO, 0);
            for round in 0..rounds {
                let (text, expected) = match round % 5 {
                    0 => (good.replace("num_consumers: 4", "num_consumers: 5"), DONE),
                    1 => (good.replace("max_connections: 100", "max_connections: 101"), DONE),
                    2 => (good.replace("num_consumers: 4", "num_consumer: 4"), NOT),
                    3 => (good.replace(&world.agent.ports.health.to_string(), &taken), NOT),
                    _ => (good.replace("processors: [batch]", "processors: []"), DONE),
                };
                bad += u32::from(expected == NOT);
                let said = |log: &str| log.matches(expected).count();
                let before = said(&world.agent.log());
                world.configure(&text)?;
                let began = Instant::now();
                world.agent.signal("HUP")?;
                while said(&world.agent.log()) == before {
                    if began.elapsed() > PATIENCE {
                        return Err(format!("reload {round} is not done: {}", world.agent.tail()).into());
                    }
                    sleep(Duration::from_millis(10)).await;
                }
                longest = longest.max(began.elapsed());
                sleep(Duration::from_millis(30)).await;
            }
            if longest > TOO_LONG {
                world.wrong.push(format!("a reload took {longest:?}"));
            }
            let heard = load.stop().await;
            let unanswered: u64 = heard
                .answers
                .iter()
                .filter(|(answer, _)| answer.starts_with("no answer"))
                .map(|(_, count)| count)
                .sum();
            if unanswered > 0 {
                world.wrong.push(format!("{unanswered} senders without an answer"));
            }
            world.notes.push(format!(
                "{rounds} reloads, {bad} of them wrong, the longest {:.0} ms; senders heard {}",
                longest.as_secs_f64() * 1e3,
                heard.summary()
            ));
            all.add(&format!("{name} {kind}"), world.close(DRAIN).await?);
        }
    }
    Ok(all)
}
