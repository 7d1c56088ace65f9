//! The host is short of something: descriptors, memory, time.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{DRAIN, Form};
use crate::Fault;
use crate::agent::Fence;
use crate::load::{self, Protocol};
use crate::sink::Mood;
use crate::world::{Outcome, Queue, Setup, World};

const WINDOW: Option<Duration> = Some(Duration::from_millis(100));

/// A flood of connections takes every descriptor the agent may have; then it ends.
pub async fn descriptors(form: Form) -> Result<Outcome, Fault> {
    let setup = Setup {
        queue: Queue::Disk(WINDOW),
        fence: Fence { descriptors: Some(64), ..Fence::default() },
        ..Setup::default()
    };
    let mut world = World::start(&form.agent, setup).await?;
    let load = world.load(&load::Plan { padding: 1000, ..load::Plan::default() })?;
    let mut answered = true;
    for _ in 0..form.pick(1, 10) {
        sleep(form.seconds(0.3, 1.0)).await;
        let mut flood = Vec::new();
        for _ in 0..120 {
            flood.push(TcpStream::connect((Ipv4Addr::LOCALHOST, world.agent.ports.http)).await?);
        }
        // The backend's connections are gone as well, so new ones are wanted while there are none.
        world.relay.down().await;
        world.relay.up().await?;
        sleep(form.seconds(1.5, 5.0)).await;
        answered &=
            tokio::time::timeout(Duration::from_secs(1), world.agent.health()).await.is_ok_and(|page| page.is_ok());
        drop(flood);
    }
    sleep(Duration::from_millis(500)).await;
    let heard = load.stop().await;
    if !answered {
        world.wrong.push("health did not answer while descriptors were short".to_owned());
    }
    world.notes.push(format!("health answered meanwhile; senders heard {}", heard.summary()));
    let load = world.load(&load::Plan::default())?;
    sleep(Duration::from_millis(500)).await;
    let heard = load.stop().await;
    if heard.ok() == 0 {
        world.wrong.push(format!("nothing is taken after the flood: {}", heard.summary()));
    }
    world.close(DRAIN).await
}

/// Looks at the agent's pages and its memory while something else goes on.
#[derive(Default)]
struct Watch {
    health: Vec<Duration>,
    own: Vec<Duration>,
    unready: u32,
    silent: u32,
    resident: u64,
}

impl Watch {
    /// Looks ten times a second.
    async fn over(&mut self, world: &mut World, time: Duration) -> Result<(), Fault> {
        let began = Instant::now();
        while began.elapsed() < time {
            if let Some(status) = world.agent.ended()? {
                return Err(format!("the agent ended with {status}: {}", world.agent.tail()).into());
            }
            match world.agent.health().await {
                Ok((status, _, took)) => {
                    self.health.push(took);
                    self.unready += u32::from(status != 200);
                }
                Err(_) => self.silent += 1,
            }
            let asked = Instant::now();
            match world.agent.page().await {
                Ok(_) => self.own.push(asked.elapsed()),
                Err(_) => self.silent += 1,
            }
            self.resident = self.resident.max(world.agent.resident()?.1);
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn note(&mut self, world: &mut World, limit: u64) {
        let line = |times: &mut Vec<Duration>| {
            times.sort();
            let at = |part: f64| {
                times
                    .get((part * times.len().saturating_sub(1) as f64) as usize)
                    .map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
            };
            format!("{:.1} ms, at most {:.0} ms", at(0.5), at(1.0))
        };
        let (health, own) = (line(&mut self.health), line(&mut self.own));
        world.notes.push(format!(
            "resident at most {} of {} MiB; health in {health}; own metrics in {own} (median of {} looks)",
            self.resident >> 20,
            limit >> 20,
            self.health.len()
        ));
        if self.resident > limit {
            world.wrong.push("more memory than allowed".to_owned());
        }
        if self.silent + self.unready > 0 {
            world.wrong.push(format!("{} looks unanswered, {} unready", self.silent, self.unready));
        }
        if self.health.iter().chain(&self.own).any(|took| *took > Duration::from_secs(5)) {
            world.wrong.push("a look took more than 5 s".to_owned());
        }
    }
}

/// Many senders of large requests at once, under a hard limit of memory, with the backend away.
pub async fn memory(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    // Less than what is allowed to be asked for: threads' stacks and what the allocator keeps count there.
    let limit = 192 << 20;
    for (name, queue) in
        form.pick(&[("disk", Queue::Disk(WINDOW))][..], &[("memory", Queue::Memory), ("disk", Queue::Disk(WINDOW))])
    {
        let queue = *queue;
        let setup = Setup {
            queue,
            fence: Fence { memory: Some(2 * limit), ..Fence::default() },
            processors: vec![("memory_limiter", "check_interval: 100ms, limit_mib: 192".to_owned())],
            // What it would be by itself in a container of 192 MiB.
            receiver: "admission: {limit_mib: 48}".to_owned(),
            ..Setup::default()
        };
        let mut world = World::start(&form.agent, setup).await?;
        world.relay.down().await;
        let mut watch = Watch::default();
        // 5 MB a request.
        let plan = load::Plan { senders: form.pick(12, 32), points: 5000, padding: 1000, ..load::Plan::default() };
        let loads = [world.load(&plan)?, world.load(&load::Plan { protocol: Protocol::Grpc, ..plan })?];
        watch.over(&mut world, form.seconds(2.0, 30.0)).await?;
        world.relay.up().await?;
        watch.over(&mut world, form.seconds(1.0, 30.0)).await?;
        for load in loads {
            world.notes.push(format!("senders heard {}", load.stop().await.summary()));
        }
        watch.note(&mut world, limit);
        all.add(name, world.close(DRAIN).await?);
    }
    Ok(all)
}

/// A backend that takes what it can, and ten times as much offered.
pub async fn overload(form: Form) -> Result<Outcome, Fault> {
    let limit = 256 << 20;
    let setup = Setup {
        queue: Queue::Disk(WINDOW),
        sending_queue: "queue_size: 67108864, sizer: bytes, num_consumers: 4".to_owned(),
        processors: vec![("memory_limiter", "check_interval: 200ms, limit_mib: 256".to_owned())],
        ..Setup::default()
    };
    let mut world = World::start(&form.agent, setup).await?;
    world.sink.moods([Mood::Late(Duration::from_millis(100))]);
    let plan =
        load::Plan { senders: 24, points: 200, padding: 100, pause: Duration::from_millis(5), ..load::Plan::default() };
    let (before, began) = (world.sink.requests(), Instant::now());
    let loads = [world.load(&plan)?, world.load(&load::Plan { protocol: Protocol::Grpc, ..plan.clone() })?];
    let mut watch = Watch::default();
    watch.over(&mut world, form.seconds(4.0, 120.0)).await?;
    let taken = (world.sink.requests() - before) as f64 / began.elapsed().as_secs_f64();
    let mut offered = 0.0;
    for load in loads {
        let heard = load.stop().await;
        offered += heard.answers.values().sum::<u64>() as f64 / heard.seconds;
        world.notes.push(format!("senders heard {}", heard.summary()));
    }
    world.notes.push(format!("offered {offered:.0} requests/s, the backend took {taken:.0}"));
    watch.note(&mut world, limit);
    if form.long && offered < 10.0 * taken {
        world.wrong.push("not ten times".to_owned());
    }
    world.sink.moods([Mood::Take]);
    world.close(DRAIN * 2).await
}
