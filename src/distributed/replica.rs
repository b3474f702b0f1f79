//! A replica of the network, and the collective operations of all replicas.

use super::devices;
use crate::native::device::{Event, fetch};
use crate::native::group::{Group, Reducer, Store};
use anyhow::{Context, Error, Result};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Number of signals that [`Replica::reduce_step`] can tell the other replicas of; their numbers are 1 to this.
const SIGNALS: i64 = 31;

/// One copy of the network on its own device, which computes a share of every batch. All copies are equal after every
/// step.
#[derive(Debug)]
pub struct Replica {
    /// The device.
    pub(crate) device: Device,
    /// Number of this replica, from 0. The first one writes files and messages.
    pub(crate) rank: usize,
    /// Number of replicas.
    pub(crate) size: usize,
    /// Absent when this is the only replica.
    comm: Option<Comm>,
}

/// The connection to the other replicas.
#[derive(Debug)]
struct Comm {
    store: Arc<Store>,
    group: Group,
}

impl Replica {
    /// A replica without others.
    pub fn alone(device: Device) -> Replica {
        Replica {
            device,
            rank: 0,
            size: 1,
            comm: None,
        }
    }

    /// A replica that is connected to others.
    pub(super) fn connected(
        device: Device,
        (rank, size): (usize, usize),
        store: Arc<Store>,
        group: Group,
    ) -> Replica {
        Replica {
            device,
            rank,
            size,
            comm: Some(Comm { store, group }),
        }
    }

    /// Whether this is the replica that writes.
    pub(crate) fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Whether this is the only replica.
    pub(crate) fn is_alone(&self) -> bool {
        self.comm.is_none()
    }

    /// Name of this replica in messages.
    pub(crate) fn name(&self) -> String {
        let device = devices::name(self.device);
        if self.is_alone() {
            device
        } else {
            format!("replica {} of {} ({device})", self.rank, self.size)
        }
    }

    /// This replica's share of `all`: each group of `batch` elements is divided evenly among the replicas, in order of
    /// rank.
    pub(crate) fn share_of<T: Copy>(&self, all: &[T], batch: usize) -> Vec<T> {
        let share = |group: &[T]| {
            let bounds = [self.rank, self.rank + 1].map(|r| r * group.len() / self.size);
            group[bounds[0]..bounds[1]].to_vec()
        };
        all.chunks(batch).flat_map(share).collect()
    }

    /// Copies `params` of the first replica to all replicas.
    ///
    /// # Errors
    /// Here and in the functions below: another replica has failed or disconnected.
    pub(crate) fn broadcast_parameters(&self, params: &[Tensor]) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let params: Vec<&Tensor> = params.iter().collect();
        self.with_group(|group| group.broadcast(&params))
            .unwrap_or(Ok(()))
    }

    /// The reducer that sums the gradients of `params` over the replicas during the backward pass; absent in a single
    /// replica.
    pub(crate) fn reducer(&self, params: &[Tensor]) -> Result<Option<Reducer>> {
        self.with_group(|group| Reducer::new(group, params))
            .transpose()
    }

    /// The flag of the first replica. Every replica waits here for all others.
    pub(crate) fn broadcast_flag(&self, flag: bool) -> Result<bool> {
        let answer = Tensor::f_full(
            [1],
            i64::from(flag && self.is_first()),
            (Kind::Int64, self.device),
        )?;
        self.with_group(|group| group.all_reduce(&answer))
            .unwrap_or(Ok(()))?;
        Ok(Vec::<i64>::try_from(&answer)?[0] != 0)
    }

    /// The `rows` of every replica in order of rank, each padded to `count` rows.
    ///
    /// # Shapes
    /// rows (up to `count`, ...) -> (N, `count`, ...)
    pub(crate) fn gather(&self, rows: Tensor, count: i64) -> Result<Tensor> {
        let missing = count - rows.size().first().copied().unwrap_or(0);
        let rows = if missing == 0 {
            rows
        } else {
            let mut shape = rows.size();
            shape[0] = missing;
            Tensor::f_cat(
                &[
                    &rows,
                    &Tensor::f_zeros(&shape, (rows.kind(), rows.device()))?,
                ],
                0,
            )?
        };
        self.with_group(|group| group.all_gather(&rows))
            .unwrap_or_else(|| Ok(rows.f_unsqueeze(0)?))
    }

    /// Starts the step reduction: sums a loss over the replicas, and tells them which signal asks this one to stop (0:
    /// none). Absent in a single replica.
    pub(crate) fn reduce_step(&self, loss: &Tensor, signal: i32) -> Result<Option<StepReduction>> {
        let Some(comm) = &self.comm else {
            return Ok(None);
        };
        let loss = loss.f_to_kind(Kind::Double)?.f_view([1])?;
        let asked = Tensor::f_zeros([SIGNALS], (Kind::Double, self.device))?;
        if signal > 0 {
            let _ = asked.f_narrow(0, i64::from(signal) - 1, 1)?.f_fill_(1.0)?;
        }
        let values = Tensor::f_cat(&[loss, asked], 0)?; // (1 + SIGNALS)
        self.with_context_of(
            comm.group
                .check()
                .and_then(|()| comm.group.all_reduce(&values)),
        )?;
        Ok(Some(StepReduction {
            values: fetch(&values)?,
            copied: Event::now(self.device)?,
        }))
    }

    /// The text that the first replica stores under `key`.
    pub(crate) fn text_of_first(&self, key: &str, mine: &str) -> Result<String> {
        let Some(comm) = &self.comm else {
            return Ok(mine.to_string());
        };
        self.with_context_of(match self.is_first() {
            true => comm.store.set(key, mine).map(|()| mine.to_string()),
            false => comm.store.get(key),
        })
    }

    /// The texts that all replicas store under `key`, in order of rank.
    pub(crate) fn texts(&self, key: &str, mine: &str) -> Result<Vec<String>> {
        let Some(comm) = &self.comm else {
            return Ok(vec![mine.to_string()]);
        };
        let of = |rank: usize| format!("{key}/{rank}");
        self.with_context_of(comm.store.set(&of(self.rank), mine))?;
        self.with_context_of(
            (0..self.size)
                .map(|rank| comm.store.get(&of(rank)))
                .collect(),
        )
    }

    fn with_group<T>(&self, work: impl FnOnce(&Group) -> Result<T>) -> Option<Result<T>> {
        self.comm
            .as_ref()
            .map(|comm| self.with_context_of(work(&comm.group)))
    }

    fn with_context_of<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.with_context(|| format!("{} cannot go on without the others", self.name()))
    }

    /// Adds the name of this replica to `error`, unless it is the only one.
    pub(crate) fn attribute(&self, error: Error) -> Error {
        if self.is_alone() {
            error
        } else {
            error.context(self.name())
        }
    }
}

/// The sums of one step over all replicas, which may still be on the device.
#[derive(Debug)]
pub(crate) struct StepReduction {
    /// (1 + [`SIGNALS`]) the loss, then for each signal from 1 the number of replicas that it stops.
    values: Tensor,
    copied: Event,
}

impl StepReduction {
    /// Waits for the sums. Returns the loss, and the signal that asks a replica to stop, if there is one.
    ///
    /// # Errors
    /// An error of the device.
    pub(crate) fn read(&self) -> Result<(f64, Option<i32>)> {
        self.copied.wait()?;
        let values = Vec::<f64>::try_from(&self.values)?;
        let (loss, asked) = values.split_at(1);
        let signal = asked.iter().rposition(|&replicas| replicas > 0.0);
        Ok((loss.iter().sum(), signal.map(|index| index as i32 + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_is_shared_evenly_in_order() {
        let all: Vec<usize> = (0..12).collect();
        let share = |rank, size| {
            Replica {
                rank,
                size,
                ..Replica::alone(Device::Cpu)
            }
            .share_of(&all, 6)
        };
        assert_eq!(share(0, 1), all);
        assert_eq!(
            (share(0, 2), share(1, 2)),
            (vec![0, 1, 2, 6, 7, 8], vec![3, 4, 5, 9, 10, 11])
        );
        assert_eq!(share(2, 3), [4, 5, 10, 11]);
    }

    #[test]
    fn a_single_replica_needs_no_connection() {
        let replica = Replica::alone(Device::Cpu);
        assert!(replica.broadcast_flag(true).unwrap() && !replica.broadcast_flag(false).unwrap());
        assert_eq!(
            replica.gather(Tensor::from_slice(&[7i64]), 2).unwrap(),
            Tensor::from_slice(&[7i64, 0]).view([1, 2])
        );
        assert!(
            replica
                .reduce_step(&Tensor::from(1f32), 0)
                .unwrap()
                .is_none()
        );
        assert_eq!(replica.texts("key", "mine").unwrap(), ["mine"]);
    }
}
