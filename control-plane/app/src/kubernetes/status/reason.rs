//! What an object's status says for each reason that a fault can have: the reasons that the Gateway
//! API names for the conditions of routes (`RouteConditionReason`) and policies (`PolicyConditionReason`).

use weft_model::Reason;

/// The row of one reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// `Accepted` of a policy.
    pub policy: &'static str,
    /// `Accepted` of a route, for a fault at a parent.
    pub parent: &'static str,
    /// `PartiallyInvalid` of a route, or its `Accepted` where no rule is left, for a fault in a rule.
    pub rule: &'static str,
    /// `ResolvedRefs` of a route, for a fault at a backend.
    pub backend: &'static str,
    /// In a route it speaks of a backend wherever it stands.
    pub is_reference: bool,
    /// The rest of a policy is in force all the same.
    pub costs_only_itself: bool,
}

/// The table.
pub(super) fn row(reason: Reason) -> Row {
    let invalid = Row {
        policy: "Invalid",
        parent: "UnsupportedValue",
        rule: "UnsupportedValue",
        backend: "BackendNotFound",
        is_reference: false,
        costs_only_itself: false,
    };
    let not_found = Row {
        policy: "TargetNotFound",
        parent: "NoMatchingParent",
        ..invalid
    };
    match reason {
        Reason::UnsupportedValue => Row {
            backend: "InvalidKind", // an ExternalName, too, is a kind of Service that cannot be a backend
            costs_only_itself: true,
            ..invalid
        },
        Reason::IncompatibleFilters => Row {
            parent: "IncompatibleFilters",
            rule: "IncompatibleFilters",
            costs_only_itself: true,
            ..invalid
        },
        Reason::UnknownKind => Row {
            backend: "InvalidKind",
            ..invalid
        },
        Reason::InvalidKind => Row {
            backend: "InvalidKind",
            is_reference: true,
            ..invalid
        },
        Reason::RefNotPermitted => Row {
            backend: "RefNotPermitted",
            is_reference: true,
            ..invalid
        },
        Reason::BackendNotFound => Row {
            policy: "TargetNotFound",
            is_reference: true,
            ..invalid
        },
        Reason::TargetNotFound => Row {
            is_reference: true,
            ..not_found
        },
        Reason::PortNotFound | Reason::NoMatchingParent => not_found,
        // The Gateway API has no such reason for `Accepted` of a route, and allows others.
        Reason::Conflicted => Row {
            policy: "Conflicted",
            parent: "Conflicted",
            ..invalid
        },
        Reason::UnsupportedProtocol => Row {
            parent: "UnsupportedProtocol",
            backend: "UnsupportedProtocol",
            ..invalid
        },
        Reason::UnreadableYaml
        | Reason::UnknownField
        | Reason::UnusedKind
        | Reason::DuplicateObject
        | Reason::DuplicateValue
        | Reason::InvalidValue
        | Reason::NoWorkloads
        | Reason::NotMeshed
        | Reason::HostnamesIgnored
        | Reason::PolicyDenies => invalid,
    }
}
