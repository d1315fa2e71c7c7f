//! Nodes without processes, at a real master.

/// Registers this many simulated nodes at a master. Calls to them go over no wire: each is answered at once with its own
/// arguments. To be called on the master's runtime.
///
/// # Errors
///
/// [`Error::ServedTwice`](crate::Error::ServedTwice), as for a node.
pub fn register(master: &crate::Master, service: impl crate::Service, count: usize) -> Result<(), crate::Error> {
    let router = crate::service::router::Router::new([service.routes()])?;
    master.simulate_nodes(router.offers(), count);
    Ok(())
}
