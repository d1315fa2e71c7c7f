//! The methods that a caller has declared. The master calls them without knowing their types.

use std::{collections::HashMap, sync::Arc};

use crate::{id::MethodName, service::method::MethodInfo, wire::handshake::MethodOffer};

/// The most methods that a caller may declare on one connection, and the bytes of all their texts.
const MOST_METHODS: usize = 1024;
const MOST_BYTES: usize = 512 * 1024;

/// The methods of one caller, by whether their calls may be repeated: that is what the caller says of each call.
#[derive(Debug, Default)]
pub(super) struct DeclaredMethods {
    by_id: HashMap<u64, Declared>,
    bytes: usize,
}

#[derive(Debug)]
struct Declared {
    once: Arc<MethodInfo>,
    idempotent: Arc<MethodInfo>,
}

impl DeclaredMethods {
    /// The caller has declared a method.
    ///
    /// # Errors
    ///
    /// What a correct caller never sends, as the reason why the connection is closed.
    pub(super) fn declare(&mut self, offer: MethodOffer) -> Result<(), String> {
        offer.check()?;
        self.bytes += offer.size();
        if self.bytes > MOST_BYTES || self.by_id.len() >= MOST_METHODS {
            return Err(format!(
                "it declared more than {MOST_METHODS} methods, or more than {MOST_BYTES} bytes of names, signatures and types"
            ));
        }
        let info = |idempotent| {
            let name = MethodName::new(&offer.service, &offer.name);
            let MethodOffer { version, signature, types, structure, kind, streams, .. } = &offer;
            Arc::new(MethodInfo::new(name, *version, signature, (*kind, idempotent, *streams), *types, structure))
        };
        self.by_id.insert(offer.id, Declared { once: info(false), idempotent: info(true) });
        Ok(())
    }

    /// A method that was declared.
    pub(super) fn get(&self, id: u64, idempotent: bool) -> Option<&Arc<MethodInfo>> {
        let declared = self.by_id.get(&id)?;
        Some(if idempotent { &declared.idempotent } else { &declared.once })
    }
}
