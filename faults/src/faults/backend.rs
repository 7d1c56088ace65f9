//! The backend fails: away, stopped, slow, cut off, refusing, never ending.

use std::time::Duration;

use tokio::time::sleep;

use super::{DRAIN, Form, OUT};
use crate::Fault;
use crate::agent::signal;
use crate::load;
use crate::relay::Wire;
use crate::sink::Mood;
use crate::world::{Outcome, Queue, Setup, World};

/// Away under load, then back under load.
pub async fn down(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    for (name, out) in OUT {
        let mut world = World::start(&form.agent, Setup { out, ..Setup::default() }).await?;
        let load =
            world.load(&load::Plan { protocol: out, pause: Duration::from_millis(20), ..load::Plan::default() })?;
        sleep(form.seconds(0.5, 5.0)).await;
        world.relay.down().await;
        sleep(form.seconds(2.0, 120.0)).await;
        let (status, body, _) = world.agent.health().await?;
        if status != 200 || !body.contains("degraded") {
            world.wrong.push(format!("health said {status} while the backend was down: {body}"));
        }
        let waiting = world.oracle.verdict().missing;
        world.relay.up().await?;
        // What is new must not wait behind what is old for ever; at the end of the load all has arrived.
        sleep(form.seconds(1.5, 10.0)).await;
        let heard = load.stop().await;
        world.notes.push(format!("{waiting} points waited; senders heard {}", heard.summary()));
        all.add(name, world.close(DRAIN).await?);
    }
    Ok(all)
}

/// Stopped under load: it accepts connections, as the kernel does for it, and answers nothing.
pub async fn stopped(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    for (name, out) in OUT {
        let mut world = World::start(&form.agent, Setup { out, ..Setup::default() }).await?;
        // The wire moves into a process of its own.
        world.relay.down().await;
        let mut wire = tokio::process::Command::new(std::env::current_exe()?)
            .args(["relay", &world.relay.port.to_string(), &world.sink.port.to_string()])
            .kill_on_drop(true)
            .spawn()?;
        let pid = wire.id().ok_or("the wire ended at once")?;
        let load =
            world.load(&load::Plan { protocol: out, pause: Duration::from_millis(20), ..load::Plan::default() })?;
        sleep(form.seconds(1.0, 5.0)).await;
        signal(pid, "STOP")?;
        // Longer than the exporter's timeout (2 s), so that requests are given up and repeated.
        sleep(form.seconds(3.0, 60.0)).await;
        signal(pid, "CONT")?;
        sleep(form.seconds(1.0, 10.0)).await;
        let heard = load.stop().await;
        world.notes.push(format!("senders heard {}", heard.summary()));
        all.add(name, world.close(DRAIN).await?);
        wire.kill().await?;
    }
    Ok(all)
}

/// Late, cut and half-sent answers and requests, one after the other, several rounds.
pub async fn wire(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    for (name, out) in OUT {
        let mut world = World::start(&form.agent, Setup { out, ..Setup::default() }).await?;
        let load =
            world.load(&load::Plan { protocol: out, pause: Duration::from_millis(10), ..load::Plan::default() })?;
        let wires = [
            Wire::Slow(Duration::from_millis(300)),
            // Before a byte of the answer, in its head, and behind it.
            Wire::CutAnswers(0),
            Wire::CutAnswers(20),
            Wire::CutAnswers(200),
            // In the head of a request, and in its body.
            Wire::CutRequests(60),
            Wire::CutRequests(1500),
        ];
        for _ in 0..form.pick(1, 10) {
            for wire in wires {
                world.relay.set(wire);
                sleep(Duration::from_millis(400)).await;
                world.relay.set(Wire::Good);
                sleep(Duration::from_millis(100)).await;
            }
            // Nobody listens, connections end.
            world.relay.down().await;
            sleep(Duration::from_millis(200)).await;
            world.relay.up().await?;
        }
        let heard = load.stop().await;
        world.notes.push(format!("senders heard {}", heard.summary()));
        all.add(name, world.close(DRAIN).await?);
    }
    Ok(all)
}

/// Every class of answer, mixed with OK.
pub async fn answers(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    let later = [429, 502, 503, 504].map(Mood::Refuse);
    let never = [400, 401, 500].map(Mood::Refuse);
    for (name, out) in OUT {
        for (what, moods) in [
            ("later", later.into_iter().flat_map(|mood| [mood, Mood::Take, Mood::Take]).collect::<Vec<_>>()),
            ("never", never.into_iter().flat_map(|mood| [mood, Mood::Take, Mood::Take]).collect()),
            ("too large", vec![Mood::TooLarge(1000)]),
            ("partial", vec![Mood::Partial(3), Mood::Take]),
        ] {
            let mut world = World::start(&form.agent, Setup { out, ..Setup::default() }).await?;
            world.sink.moods(moods);
            let plan =
                load::Plan { protocol: out, senders: 2, pause: Duration::from_millis(30), ..load::Plan::default() };
            let load = world.load(&plan)?;
            sleep(form.seconds(0.7, 20.0)).await;
            let heard = load.stop().await;
            let answered = world.sink.requests();
            world.notes.push(format!("{} requests in, {answered} out", heard.ok()));
            // What waits is taken at once now; the answers were the fault.
            if what == "later" {
                world.sink.moods([Mood::Take]);
            }
            let outcome = world.close(DRAIN).await?;
            all.add(&format!("{name} {what}"), outcome);
        }
    }
    Ok(all)
}

/// OK in a body that never ends: the agent must neither read for ever nor grow.
pub async fn endless(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    for (name, out) in OUT {
        let mut world = World::start(&form.agent, Setup { out, queue: Queue::Memory, ..Setup::default() }).await?;
        let load =
            world.load(&load::Plan { protocol: out, pause: Duration::from_millis(20), ..load::Plan::default() })?;
        sleep(form.seconds(0.3, 1.0)).await;
        let (before, _) = world.agent.resident()?;
        world.sink.moods([Mood::Endless]);
        sleep(form.seconds(2.0, 60.0)).await;
        world.sink.moods([Mood::Take]);
        let heard = load.stop().await;
        world.settle(DRAIN).await?;
        let (_, peak) = world.agent.resident()?;
        world.notes.push(format!(
            "resident {} MiB before, {} at most; senders heard {}",
            before >> 20,
            peak >> 20,
            heard.summary()
        ));
        if peak > before + (128 << 20) {
            world.wrong.push(format!("it grew from {before} to {peak} bytes"));
        }
        all.add(name, world.close(DRAIN).await?);
    }
    Ok(all)
}
