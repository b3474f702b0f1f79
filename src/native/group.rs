//! Communication between replicas through c10d of libtorch: a store of small texts, a group that sums and gathers
//! tensors through NCCL on GPUs and Gloo on CPUs, and a reducer of gradients.

use super::ffi;
use super::{check, owned_text, pointers, returned};
use anyhow::{Context, Result};
use std::ffi::CString;
use std::time::Duration;
use tch::{Device, Tensor};

owner! {
    /// A store of small texts that all replicas share.
    pub(crate) Store of RawStore, freed by mcan_free_store
}

owner! {
    /// One replica's connection to all others. All replicas have to call the same functions in the same order.
    pub(crate) Group of RawGroup, freed by mcan_free_group
}

owner! {
    /// A sum of gradients over all replicas of a group, made bucket by bucket while the backward pass still runs.
    pub(crate) Reducer of RawReducer, freed by mcan_free_reducer
}

// SAFETY: libtorch's stores lock themselves.
unsafe impl Sync for Store {}

/// Makes c10d report failures as errors, without printing them or ending the process.
pub(crate) fn prepare_engine() {
    // SAFETY: sets a flag of libtorch, and an environment variable before the run starts threads.
    unsafe { ffi::mcan_prepare_engine() }
}

/// The address of a store that serves several processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendezvous {
    /// Name or address of the server's machine.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether this process is the server.
    pub(crate) serve: bool,
    /// Prefix of all keys, so that one server can serve one job after another.
    pub(crate) prefix: String,
}

impl Store {
    /// A store for replicas within this process.
    ///
    /// # Errors
    /// When memory runs out.
    pub(crate) fn here() -> Result<Store> {
        let mut store = std::ptr::null_mut();
        // SAFETY: `store` outlives the call.
        check(unsafe { ffi::mcan_store_here(&mut store) })?;
        Ok(Store(store))
    }

    /// A store for `size` processes. Waits until all are connected, at most `timeout`.
    ///
    /// # Errors
    /// When the port is taken, the address does not answer, or a process does not connect in time.
    pub(crate) fn at(rendezvous: &Rendezvous, size: usize, timeout: Duration) -> Result<Store> {
        let (host, prefix) = (c_text(&rendezvous.host)?, c_text(&rendezvous.prefix)?);
        let mut store = std::ptr::null_mut();
        // SAFETY: texts and `store` outlive the call.
        check(unsafe {
            let (host, prefix) = (host.as_ptr(), prefix.as_ptr());
            ffi::mcan_store_at(
                &mut store,
                host,
                rendezvous.port,
                rendezvous.serve,
                size as i64,
                prefix,
                milliseconds(timeout),
            )
        })?;
        Ok(Store(store))
    }

    /// Stores `text` under `key`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn set(&self, key: &str, text: &str) -> Result<()> {
        let (key, text) = (c_text(key)?, c_text(text)?);
        // SAFETY: texts are borrowed for the length of the call.
        check(unsafe { ffi::mcan_store_set(self.0, key.as_ptr(), text.as_ptr()) })
    }

    /// The text under `key`. Waits until it is set.
    ///
    /// # Errors
    /// When it is not set in time, or the store does not answer.
    pub(crate) fn get(&self, key: &str) -> Result<String> {
        let key = c_text(key)?;
        let mut text = std::ptr::null_mut();
        // SAFETY: `key` and `text` outlive the call.
        check(unsafe { ffi::mcan_store_get(&mut text, self.0, key.as_ptr()) })?;
        // SAFETY: the call succeeded, so `text` is a new string.
        Ok(unsafe { owned_text(text) })
    }
}

/// The address of this replica for the others.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    /// By an address of this machine.
    Address(String),
    /// Through a network interface of this machine.
    Interface(String),
}

impl Group {
    /// Joins the `size` replicas that share `store`, as number `rank` and computing on `device`. This and every later
    /// function waits for the others at most `timeout`.
    ///
    /// # Errors
    /// When another replica does not join in time, or cannot be reached.
    pub(crate) fn join(
        store: &Store,
        (rank, size): (usize, usize),
        device: Device,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Group> {
        let (interface, address) = match endpoint {
            Endpoint::Interface(name) => (c_text(name)?, CString::default()),
            Endpoint::Address(address) => (CString::default(), c_text(address)?),
        };
        let mut group = std::ptr::null_mut();
        // SAFETY: `store`, texts and `group` outlive the call.
        check(unsafe {
            let (rank, size, gpu) = (rank as i32, size as i32, super::device::gpu(device));
            let (interface, address) = (interface.as_ptr(), address.as_ptr());
            ffi::mcan_group_join(
                &mut group,
                store.0,
                rank,
                size,
                gpu,
                interface,
                address,
                milliseconds(timeout),
            )
        })?;
        Ok(Group(group))
    }

    /// Replaces `tensor` by its sum over all replicas.
    ///
    /// # Errors
    /// When another replica has failed or disconnected.
    pub(crate) fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: borrowed for the length of the call; on a GPU libtorch keeps what its stream still needs.
        check(unsafe { ffi::mcan_all_reduce(self.0, tensor.as_ptr()) })
    }

    /// The tensors of the N replicas, in order of rank.
    ///
    /// # Shapes
    /// (...) -> (N, ...)
    ///
    /// # Errors
    /// When another replica has failed or disconnected.
    pub(crate) fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        // SAFETY: `out` is written before null is returned.
        returned(|out| unsafe { ffi::mcan_all_gather(out, self.0, tensor.as_ptr()) })
    }

    /// Replaces `tensors` by those of rank 0.
    ///
    /// # Errors
    /// When another replica has failed or disconnected.
    pub(crate) fn broadcast(&self, tensors: &[&Tensor]) -> Result<()> {
        let tensors: Vec<_> = tensors.iter().map(|tensor| tensor.as_ptr()).collect();
        // SAFETY: an array of `len` tensors, borrowed for the length of the call.
        check(unsafe { ffi::mcan_broadcast(self.0, tensors.as_ptr(), tensors.len() as i64) })
    }

    /// Reports a failure of the group's newest operation, without waiting for a GPU.
    ///
    /// # Errors
    /// That failure.
    pub(crate) fn check(&self) -> Result<()> {
        // SAFETY: no arguments besides the group itself.
        check(unsafe { ffi::mcan_group_check(self.0) })
    }
}

impl Reducer {
    /// A reducer for `params`, which have to be the same in all replicas, in the same order.
    ///
    /// # Errors
    /// When memory runs out.
    pub(crate) fn new(group: &Group, params: &[Tensor]) -> Result<Reducer> {
        let params = pointers(params);
        let mut reducer = std::ptr::null_mut();
        // SAFETY: an array of `len` tensors and `reducer` outlive the call; the reducer keeps what it needs of both.
        check(unsafe {
            ffi::mcan_new_reducer(&mut reducer, group.0, params.as_ptr(), params.len() as i64)
        })?;
        Ok(Reducer(reducer))
    }

    /// Makes the next backward pass sum the gradients over all replicas. Called before the forward pass of the last
    /// micro-batch of a step.
    ///
    /// # Errors
    /// When another replica has failed or disconnected.
    pub(crate) fn expect_last_micro_batch(&self) -> Result<()> {
        // SAFETY: no arguments besides the reducer itself.
        check(unsafe { ffi::mcan_reducer_expect(self.0) })
    }
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("{text:?} has a NUL"))
}

fn milliseconds(timeout: Duration) -> i64 {
    timeout.as_millis().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// Longer than the busiest machine needs; a lost replica is noticed at once.
    const LIMIT: Duration = Duration::from_secs(300);

    /// Runs `work` as `size` replicas on the CPU, each in a thread; their results in order of rank.
    fn replicas<T: Send>(size: usize, work: impl Fn(usize, Group) -> T + Sync) -> Vec<T> {
        let store = Store::here().unwrap();
        let endpoint = Endpoint::Address("127.0.0.1".into());
        std::thread::scope(|scope| {
            let replica = |rank| {
                let group =
                    Group::join(&store, (rank, size), Device::Cpu, &endpoint, LIMIT).unwrap();
                work(rank, group)
            };
            let threads: Vec<_> = (0..size)
                .map(|rank| scope.spawn(move || replica(rank)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    }

    #[test]
    fn replicas_sum_gather_and_receive_what_the_first_broadcasts() {
        let found = replicas(3, |rank, group| {
            let mine = Tensor::full([2], rank as f64 + 1.0, (Kind::Float, Device::Cpu));
            let all = group.all_gather(&mine).unwrap();
            let received = mine.copy();
            group.broadcast(&[&received]).unwrap();
            group.all_reduce(&mine).unwrap();
            group.check().unwrap();
            (all, received, mine)
        });
        for (all, received, sum) in found {
            assert_eq!(
                all,
                Tensor::from_slice(&[1f32, 1., 2., 2., 3., 3.]).view([3, 2])
            );
            assert_eq!(
                (received, sum),
                (
                    Tensor::from_slice(&[1f32, 1.]),
                    Tensor::from_slice(&[6f32, 6.])
                )
            );
        }
    }

    #[test]
    fn gradients_are_summed_after_the_last_micro_batch() {
        // The gradient of w x is x. The second parameter, which is larger than a bucket, has the gradient 1.
        let found = replicas(2, |rank, group| {
            let params = [
                Tensor::zeros([3], (Kind::Float, Device::Cpu)).set_requires_grad(true),
                Tensor::zeros([9_000_000], (Kind::Float, Device::Cpu)).set_requires_grad(true),
            ];
            let reducer = Reducer::new(&group, &params).unwrap();
            let mut sums = Vec::new();
            for step in 0..3 {
                crate::native::clear_grads(&params).unwrap();
                for micro_batch in 0..2 {
                    if micro_batch == 1 {
                        reducer.expect_last_micro_batch().unwrap();
                    }
                    let x = Tensor::from_slice(&[1f32, 10. * (rank + 1) as f32, step as f32]);
                    ((&params[0] * x).sum(Kind::Float) + params[1].sum(Kind::Float)).backward();
                }
                sums.push((
                    params[0].grad().copy(),
                    params[1].grad().mean(Kind::Float).double_value(&[]),
                ));
            }
            sums
        });
        for sums in found {
            for (step, (small, large)) in sums.into_iter().enumerate() {
                assert_eq!(small, Tensor::from_slice(&[4f32, 60., 4. * step as f32]));
                assert_eq!(large, 4.0);
            }
        }
    }

    #[test]
    fn a_lost_replica_is_an_error_to_the_others_and_not_a_wait() {
        let all_have_summed = std::sync::Barrier::new(3);
        let failed = replicas(3, |rank, group| {
            let mine = Tensor::ones([2], (Kind::Float, Device::Cpu));
            let summed = group.all_reduce(&mine);
            // A replica that leaves while others still receive its data would take these data with it.
            all_have_summed.wait();
            summed.unwrap();
            // The rest of the text is the system's, and depends on whether data was under way.
            let is_lost = |error: anyhow::Error| !error.to_string().contains("Timed out");
            rank != 1 && group.all_reduce(&mine).is_err_and(is_lost)
        });
        assert_eq!(failed, [true, false, true]);
    }

    #[test]
    fn texts_are_stored_and_found() {
        let store = Store::here().unwrap();
        store.set("seed", "7").unwrap();
        assert_eq!(store.get("seed").unwrap(), "7");
        assert!(store.set("nul", "\0").is_err());
    }
}
