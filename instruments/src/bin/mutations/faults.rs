//! The faults that are planted.

/// What is wrong in the copy, and how: in the function `item` (`Type::function`, whichever file it is in) each of `edits`
/// is made. An edit replaces the only place that matches its pattern by a text. Formatting and comments do not matter.
/// `$name` in a pattern matches any identifier, and the same one in all patterns and texts of the fault, so that local
/// names may change.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    pub(crate) item: &'static str,
    pub(crate) edits: &'static [(&'static str, &'static str)],
}

const fn fault(what: &'static str, item: &'static str, edits: &'static [(&'static str, &'static str)]) -> Fault {
    Fault { what, item, edits }
}

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "load is constant",
        "Node::load",
        &[("(u64::from(self.taken($kind)) << 32) / u64::from(self.limit($kind))", "0")],
    ),
    fault("slots are ignored in the load", "Node::load", &[("/ u64::from(self.limit($kind))", "/ 65_536")]),
    fault(
        "async load counts as compute",
        "Node::taken",
        &[(
            "self.counts[$kind].saturating_add(self.busy)",
            "self.counts[$kind].saturating_add(self.busy).saturating_add(self.counts.asynchronous)",
        )],
    ),
    fault(
        "a suspect node gets calls",
        "Node::takes",
        &[("self.is_open()", "self.state != NodeState::Draining && !self.is_cordoned")],
    ),
    fault("a cordoned node gets calls", "Node::is_open", &[("&& !self.is_cordoned", "")]),
    fault(
        "calls for any node wait for a cordoned node because of their affinity key",
        "Core::on_cordon_requested",
        &[("self.move_affine($id, \"its node is cordoned\");", "")],
    ),
    fault(
        "a node that is uncordoned is not given what waits",
        "Core::on_cordon_requested",
        &[("self.feed($now, $id, $effects);", "")],
    ),
    fault(
        "calls keep avoiding a node if all others are cordoned",
        "Core::on_cordon_requested",
        &[("self.place_avoiding();", "")],
    ),
    fault(
        "a process that registers again is not cordoned any more",
        "Registry::join",
        &[("let $cordoned = self.cordoned_processes.contains(&$profile.instance);", "let $cordoned = false;")],
    ),
    fault(
        "a node that an administrator drains is not asked to end",
        "Core::on_drain_requested",
        &[("$effects.push(Effect::RequestDrain { link: $node.link.clone() });", "let _ = $node;")],
    ),
    fault(
        "a kick does not count towards poisoning",
        "Losses::of",
        &[("$reason.may_be_by_call()", "$reason.is_death()")],
    ),
    fault(
        "a call that an administrator cancels goes on on its node",
        "Core::on_cancel_requested",
        &[("self.stop($now, $id, &$call, $effects);", "")],
    ),
    fault(
        "a call that an administrator cancels is always said not to have run",
        "Core::on_cancel_requested",
        &[("if $sent || $call.may_have_run() { Execution::MayHaveRun }", "if false { Execution::MayHaveRun }")],
    ),
    fault(
        "a call within a batch cannot be told from one that does not exist",
        "Calls::batch_with",
        &[("$id.0 - $first.0 < u64::from($call.demand.count)", "$id == $first")],
    ),
    fault(
        "a handler that has stopped is still listed",
        "Core::on_attempt_finished",
        &[("self.note_stopped($id, $node, $attempt);", "")],
    ),
    fault(
        "handlers of a node that is gone are still listed",
        "Core::lose",
        &[("self.note_stopped($call, $from.identity.id, $attempt);", "")],
    ),
    fault(
        "a handler that goes on is reported again and again",
        "Core::report_overdue",
        &[("self.stats.overdue += 1;", "self.timers.insert(($now + OVERDUE_AFTER, Timer::Overdue($id)));")],
    ),
    fault(
        "a page of calls begins with the last one of the page before",
        "Calls::after",
        &[("$after.map_or(Bound::Unbounded, Bound::Excluded)", "$after.map_or(Bound::Unbounded, Bound::Included)")],
    ),
    fault(
        "handlers that stop are listed behind all calls that go on",
        "Core::stop",
        &[("number: $call.number,", "number: $call.number | 1 << 40,")],
    ),
    fault(
        "a hedge is said to be as old as the call that it hedges",
        "CallEntry::made",
        &[(
            "self.submitted.saturating_add(self.demand.hedge_of.map_or(Duration::ZERO, |$hedged| $hedged.elapsed))",
            "self.submitted",
        )],
    ),
    fault("a page of calls looks at all of them", "Core::call_infos", &[("$left -= 1;", "")]),
    fault(
        "cordoned nodes are said to be busy",
        "Availability::add_view",
        &[("self.cordoned += $view.cordoned;", "self.busy += $view.cordoned;")],
    ),
    fault(
        "nodes that a call avoids are not told apart",
        "Registry::availability",
        &[("$found.avoided += 1;", "$found.busy += 1;")],
    ),
    fault(
        "a call that waits for a cordoned node is said to wait for a busy one",
        "Core::why_waiting",
        &[("_ if $node.is_cordoned => WaitReason::NodeCordoned { node: $identity },", "")],
    ),
    fault(
        "calls that wait for their next attempt count as running",
        "Core::back_off",
        &[(
            "self.called.relocate($call, CallLocation::BackingOff($until));",
            "$call.location = CallLocation::BackingOff($until);",
        )],
    ),
    fault("calls that a node has given back are still counted", "CalledMethods::keep", &[("self.remove($call);", "")]),
    fault(
        "the methods of some nodes are not listed",
        "Core::served_methods",
        &[("$groups.len() == $most", "$groups.len() > $most")],
    ),
    fault(
        "a method is idempotent if one of its nodes says so",
        "MethodList::add_served",
        &[("$row.idempotent &= $offer.idempotent;", "$row.idempotent |= $offer.idempotent;")],
    ),
    fault(
        "what the first node says of idempotence is told of all",
        "MethodSet::new",
        &[("if $offer.idempotent { \"idempotent\" } else { \"\" }", "\"\"")],
    ),
    fault(
        "a call is repeated after a kick although it may not be",
        "Core::lost",
        &[(
            "$call.handle.abandon($call.attempt)",
            "$call.handle.abandon($call.attempt) || *$reason == GoneReason::Kicked",
        )],
    ),
    fault(
        "bytes sent ahead are unbounded",
        "Node::takes",
        &[("&& self.backlog.bytes.saturating_add($need.bytes) <= PREFETCH_BYTES", "")],
    ),
    fault(
        "labels are not looked at where a node is chosen",
        "Registry::least_loaded",
        &[("$search.view($group)", "Some(&$group.everyone)")],
    ),
    fault(
        "avoided nodes are not avoided where a node is chosen",
        "Registry::least_loaded",
        &[("let $fits = |(_, $id): &(u64, NodeId)| !$avoid.contains($id);", "let $fits = |_: &(u64, NodeId)| true;")],
    ),
    fault(
        "a newcomer gets all calls that it takes",
        "Node::takes_any",
        &[("&& self.window.left($kind, self.counts[$kind]) > 0", "")],
    ),
    fault(
        "a node takes calls that avoid it from the queue",
        "AvoidingHeads::first_for",
        &[(
            "$near.copied().find(|(_, $queue)| !is_excluded(*$queue))",
            "{ let _ = is_excluded; $near.copied().next() }",
        )],
    ),
    fault(
        "calls that are exempt from the limits count against them",
        "CallEntry::waiting",
        &[("!self.demand.exempt_from_limits && !self.is_nested", "!self.is_nested")],
    ),
    fault(
        "what is left of a closed queue's calls is forgotten after a slice",
        "Core::empty",
        &[("self.deferred.push_front(DeferredTask::EmptyQueue($queue));", "")],
    ),
    fault(
        "what waits for a view is not placed once it is whole",
        "Core::fill_views",
        &[("if $is_served { self.deferred.push_view(DeferredTask::PlaceQueue($queue)); }", "if $is_served {}")],
    ),
    fault(
        "a view is not filled on after a slice",
        "Core::fill_views",
        &[("self.prepare_views($method, &$labels);", "")],
    ),
    fault(
        "what is left of a lost node's calls is forgotten after a slice",
        "Core::lose",
        &[("self.deferred.push_front(DeferredTask::HandleLost { $calls, $from });", "")],
    ),
    fault(
        "what is left of the calls to expire is forgotten after a slice",
        "Core::expire",
        &[("self.deferred.push_front(DeferredTask::ExpireQueue($id));", "")],
    ),
    fault(
        "a node may start calls of a batch that are not in the books as granted",
        "Core::on_grant_requested",
        &[("$call.granted = $upto;", "")],
    ),
    fault(
        "a batch is granted what was given back",
        "Core::on_grant_requested",
        &[("&& $call.kept.is_none()", ""), (".min($count)", ".min($call.demand.count)")],
    ),
    fault(
        "the free slots of a view by label are not kept up",
        "Group::set",
        &[(
            "$labelled.view.set($member, $before, $after);",
            "$labelled.view.set($member, $before, &IndexEntry { free: $before.free, ..*$after });",
        )],
    ),
    fault("a node that is ejected gets calls", "Health::allows", &[("!self.is_ejected &&", "")]),
    fault(
        "silence counts although the master was stalled",
        "Core::watch",
        &[("self.liveness.stall_grace = $now;", "")],
    ),
    fault(
        "nodes that fall silent together are given up at once",
        "Core::cut_off_silent",
        &[("if $most { GONE_AFTER * 2 } else { GONE_AFTER }", "GONE_AFTER")],
    ),
    fault(
        "an old registration is kept when its process registers again",
        "Core::on_node_joined",
        &[("self.cut_off($now, $old, GoneReason::Replaced, $effects);", "let _ = $old;")],
    ),
    fault(
        "a node that joins is not given what waits",
        "Core::on_node_joined",
        &[("self.feed($now, $id, $effects);", "")],
    ),
    fault(
        "a node that is leaving gets calls",
        "Core::on_node_draining",
        &[("self.registry.set_state($id, NodeState::Draining);", "")],
    ),
    fault("a batch is shortened twice", "Core::on_calls_given_back", &[("$call.kept.is_none() &&", "")]),
    fault(
        "a node that kept more than it was granted is believed",
        "Core::on_calls_given_back",
        &[("&& $kept <= $call.granted", "")],
    ),
    fault(
        "a node that has ended a call is not given what waits",
        "Core::on_attempt_finished",
        &[("self.feed($now, $node, $effects);", "")],
    ),
    fault(
        "a batch of which calls were given back is sent again whole",
        "Core::replied",
        &[("self.calls.get(&$id).is_some_and(|$call| $call.kept.is_some())", "false")],
    ),
    fault(
        "the timer of a call that has ended is kept",
        "Core::remove",
        &[("self.timers.remove(&($deadline, Timer::Deadline($id)));", "")],
    ),
    fault(
        "a node is told that it is drained while it has calls",
        "Core::tell_drained",
        &[("&& $node.in_flight.is_empty()", "")],
    ),
    fault(
        "deadlines pass unnoticed",
        "Core::on_tick",
        &[("Timer::Deadline($id) => self.time_out($now, $id, $effects),", "Timer::Deadline(_) => {}")],
    ),
    fault(
        "a call waits for ever for a node that serves it",
        "Core::on_tick",
        &[(
            "Timer::Unserved($queue) => self.deferred.push(DeferredTask::ExpireQueue($queue)),",
            "Timer::Unserved(_) => {}",
        )],
    ),
    fault(
        "an ejection never ends",
        "Core::on_tick",
        &[("Timer::EndEjection($node) => self.end_ejection($now, $node, $effects),", "Timer::EndEjection(_) => {}")],
    ),
    fault(
        "labels are not looked at where a node takes from a queue",
        "QueueHeads::for_labels",
        &[("$set.iter().all($has)", "{ let _ = &$has; let _ = $set; true }")],
    ),
    fault(
        "methods that were called are remembered for ever",
        "CalledMethods::insert",
        &[("self.methods.len() >= MOST_CALLED", "self.methods.len() >= usize::MAX")],
    ),
    fault(
        "ever new services take turns of their own",
        "Queues::service",
        &[("$known >= MOST_SERVICES", "$known >= usize::MAX")],
    ),
    fault("services do not take turns", "Queues::end_turn", &[("*$turn = self.turn;", "*$turn = 0;")]),
    fault(
        "bytes that no longer wait are still counted",
        "Amount::subtract",
        &[("self.bytes -= $size;", "let _ = $size;")],
    ),
    fault(
        "the slot of a call that has ended is not given back",
        "Node::take_off",
        &[("self.counts[$attempt.kind] -= 1;", "")],
    ),
    fault(
        "a call avoids the nodes it has tried also where there are no others",
        "Registry::lapses",
        &[(
            "$avoid.as_deref().is_some_and(|$avoid| !self.is_open_besides($method, $labels, Except::Nodes($avoid)))",
            "{ let _ = ($method, $labels, $avoid); false }",
        )],
    ),
    fault(
        "a newcomer's newest request says whether it is late",
        "Window::on_sent",
        &[(
            "self.first[$kind].get_or_insert(($now, $method, $count));",
            "self.first[$kind] = Some(($now, $method, $count));",
        )],
    ),
    fault(
        "a newcomer's window doubles also where its calls are short",
        "Window::on_look",
        &[("$expected >= $heartbeat * LONG_HEARTBEATS &&", "")],
    ),
    fault(
        "a node says how long a call ran, and is believed",
        "Core::on_attempt_finished",
        &[("$reply.run = $reply.run.min($took);", "")],
    ),
    fault(
        "an answer does not widen a newcomer's window",
        "Registry::end",
        &[("$node.window.on_answered($booking.kind);", "")],
    ),
    fault(
        "all are ejected and none is given calls",
        "Registry::all_ejected",
        &[("$serving > 0 && $serving == $resting", "false")],
    ),
    fault(
        "a call that may have run is repeated although it is not idempotent",
        "Core::may_repeat",
        &[("!$call.method.is_idempotent() ||", "")],
    ),
    fault(
        "a call that was written is taken for one that was not",
        "Core::lost",
        &[("$call.handle.abandon($call.attempt)", "!$call.handle.abandon($call.attempt)")],
    ),
    fault(
        "a call of which some was written is taken for one that was sent, although its connection ended",
        "Core::lost",
        &[("$call.handle.abandon($call.attempt)", "$call.handle.withdraw($call.attempt)")],
    ),
    fault(
        "nodes of one source poison a call although there are others",
        "Core::may_repeat",
        &[("$losses.sources_of_deaths", "$losses.deaths")],
    ),
    fault("a batch is repeated as a whole", "Core::may_repeat", &[("|| is_batch", "")]),
    fault(
        "a stream is repeated after an item has come",
        "Core::may_repeat",
        &[("|| !$call.handle.can_be_repeated()", "")],
    ),
    fault(
        "a stream that its node refuses after an item goes to another node",
        "Core::replied",
        &[("!$call.handle.can_be_repeated()", "false")],
    ),
    fault(
        "calls of a lost batch are said to be lost that were not granted",
        "Core::lost",
        &[("$call.kept.is_none() && $call.granted < $call.demand.count", "false")],
    ),
    fault(
        "a loss as part of a batch counts towards a call's attempts",
        "Core::may_repeat",
        &[(".saturating_sub(in_batch($call))", "")],
    ),
    fault(
        "the calls of an unserved queue that came later never expire",
        "Core::push",
        &[("$unserved.later.insert(($now, $waiting.seq));", "")],
    ),
    fault(
        "avoided nodes are not avoided",
        "Core::to_avoid",
        &[("$call.failed_attempts.is_empty() && $call.hedged_on.is_none()", "true")],
    ),
    fault(
        "a hedge counts its time from its own start",
        "Core::on_call_submitted",
        &[("let submitted = $now.saturating_sub($elapsed);", "let submitted = { let _ = $elapsed; $now };")],
    ),
    fault(
        "a hedge does not count the attempts of the call that it hedges",
        "CallEntry::attempts",
        &[("self.hedged_sent.saturating_add(self.sent)", "self.sent")],
    ),
    fault(
        "a call may go back to the source that it was lost with",
        "Core::choose",
        &[(
            "$call.failed_attempts.iter().filter_map(|$failed_attempt| $failed_attempt.source).collect()",
            "Vec::new()",
        )],
    ),
    fault(
        "a lost call waits for another source that is full",
        "Registry::least_loaded",
        &[("!$sources.contains(&$node.source) && $node.takes_any($kind, $need)", "!$sources.contains(&$node.source)")],
    ),
    fault(
        "that calls avoid nodes where there are others again is not noticed",
        "Core::review_lapsed",
        &[("self.deferred.push(DeferredTask::ReviewLapsed);", "")],
    ),
    fault(
        "a call that was let in is turned away as it comes again",
        "Core::enqueue_or_place",
        &[(
            "self.place_queued($now, $queue, $effects);",
            "self.place_queued($now, $queue, $effects); self.refuse_if_full(id, $effects);",
        )],
    ),
    fault(
        "a call is turned away while a view may have a node for it",
        "Core::refuse_if_full",
        &[("!self.may_soon_find_one(*$queue)", "{ let _ = $queue; true }")],
    ),
    fault(
        "a kind of which a node is full keeps the other kind from it",
        "Core::feed",
        &[("$full[$kind] = true; continue;", "return;")],
    ),
    fault(
        "a node is not fed on after a slice",
        "Core::feed",
        &[("self.deferred.push(DeferredTask::Feed($node));", "")],
    ),
    fault("a batch's first grant is not recorded", "Core::send", &[("$call.granted = $granted;", "")]),
    fault(
        "a closed queue's calls are left in it",
        "Core::close_queues",
        &[("self.deferred.push(DeferredTask::EmptyQueue($queue));", "")],
    ),
    fault(
        "a call whose turn another took does not look for another node",
        "Core::place_queued",
        &[("if self.queues.waiting == $before { break; }", "let _ = $before; break;")],
    ),
    fault(
        "turn: a caller's calls all get the same one",
        "CallerTurns::on_queued",
        &[("$line.last = $line.last.max(turn_of($seq));", "let _ = $seq;")],
    ),
    fault(
        "turn: a caller that comes late gets those of the time before",
        "CallerTurns::next_place",
        &[("$last.max(self.virtual_time($service))", "$last")],
    ),
    fault(
        "turn: virtual time stands still",
        "CallerTurns::on_taken",
        &[("$turns.virtual_time = $turns.virtual_time.max(turn_of($seq));", "let _ = ($turns, $seq);")],
    ),
    fault(
        "turn: those of calls that were cancelled count",
        "CallerTurns::on_unqueued",
        &[("*$line = WaitingLine::default();", "")],
    ),
    fault(
        "turn: a call that is queued again gets another one",
        "Core::push",
        &[("!std::mem::replace(&mut $call.has_turn, true)", "!$call.is_nested")],
    ),
    fault(
        "turn: a nested call waits behind new roots",
        "Core::on_call_submitted",
        &[("has_turn: $parent.is_some(),", "has_turn: false,")],
    ),
    fault(
        "turn: a nested call gets that of its own service although its parent waited for another",
        "CallerTurns::place_of_nested",
        &[("if $of == $service", "if { let _ = ($of, $service); true }")],
    ),
    fault(
        "limit: a nested call counts",
        "CallEntry::waiting",
        &[("!self.demand.exempt_from_limits && !self.is_nested", "!self.demand.exempt_from_limits")],
    ),
    fault("limit: that of a caller is not freed", "free_share", &[("$share.subtract($call.size);", "")]),
    fault(
        "limit: that of a caller is not looked at",
        "Core::exceeded_limit",
        &[("$of_caller.into_iter().chain([$of_all])", "{ let _ = $of_caller; [$of_all].into_iter() }")],
    ),
    fault(
        "limit: the master's own calls have one as callers have",
        "Queues::push",
        &[("if $call.caller != CallerId::MASTER", "if true")],
    ),
    fault(
        "gone: the calls of a caller that is gone are kept",
        "Core::on_caller_gone",
        &[("self.deferred.push(DeferredTask::CancelCallsOf($caller));", "let _ = $caller;")],
    ),
    fault(
        "gone: the rest of a caller's calls is forgotten after a slice",
        "Core::cancel_calls_of",
        &[("self.deferred.push_front(DeferredTask::CancelCallsOf($caller));", "")],
    ),
    fault(
        "gone: a detached call is cancelled",
        "Core::on_call_detached",
        &[("self.dependents.remove($id, $number, $caller, $parent);", "let _ = ($number, $caller, $parent);")],
    ),
    fault(
        "gone: the node of a nested call is not told",
        "Core::cancel_dependent",
        &[("self.stop($now, $id, &$call, $effects);", "let _ = $now;")],
    ),
    fault(
        "gone: what a cancelled call has made goes on",
        "Core::on_call_cancelled",
        &[("self.defer_nested($id);", "")],
    ),
    fault(
        "gone: what a call has made that an administrator cancelled goes on",
        "Core::on_cancel_requested",
        &[("self.defer_nested($id);", "")],
    ),
    fault("gone: what a call has made that timed out goes on", "Core::time_out", &[("self.defer_nested($id);", "")]),
    fault("gone: what a lost call has made goes on", "Core::lost", &[("self.defer_nested($id);", "")]),
    fault("gone: what a nested call has made goes on", "Core::cancel_dependent", &[("self.defer_nested($id);", "")]),
    fault(
        "gone: what a later attempt has made is cancelled",
        "Dependents::first_of_call",
        &[("..($parent, $before, FIRST_CALL)", "..=($parent, { let _ = $before; u64::MAX }, LAST_CALL)")],
    ),
    fault(
        "session: a node whose connection breaks loses what it has received",
        "Core::on_connection_lost",
        &[("!$may_live ||", "true || !$may_live ||")],
    ),
    fault(
        "session: a node that broke the protocol may come back",
        "Core::on_connection_lost",
        &[("matches!($reason, GoneReason::Disconnected | GoneReason::Broken(_))", "true")],
    ),
    fault(
        "session: the master waits for ever for a node to come back",
        "Core::on_connection_lost",
        &[("self.timers.insert(($until, Timer::Absent($id)));", "")],
    ),
    fault(
        "session: a node without a connection is sent calls",
        "Core::on_connection_lost",
        &[("self.registry.set_state($id, NodeState::Disconnected);", "")],
    ),
    fault(
        "session: what comes on the earlier connection of a node counts",
        "Core::is_connected",
        &[("$node.connection == $connection.number", "$node.connection >= $connection.number")],
    ),
    fault(
        "session: any process may go on with a session",
        "Core::session_to_resume",
        &[("$node.profile.is_same_process($profile)", "true")],
    ),
    fault(
        "session: the id of a session is not looked at",
        "Core::session_to_resume",
        &[("$node.session.is_some_and(|$known| $known.is_named($session))", "true")],
    ),
    fault("session: an id is good for ever", "Core::on_session_used", &[("$session.on_heard();", "")]),
    fault(
        "session: the old connection of a node that goes on on another one is not closed",
        "Core::on_node_resumed",
        &[(
            "None => $effects.push(Effect::Disconnect { link: $old, reason: GoneReason::Replaced }),",
            "None => drop($old),",
        )],
    ),
    fault(
        "session: a node that is back gets no calls",
        "Core::on_node_resumed",
        &[("self.registry.set_state($id, NodeState::Alive);", "")],
    ),
    fault(
        "session: a node that is back is not asked for the results of its calls",
        "Core::on_node_resumed",
        &[(
            "self.deferred.push(DeferredTask::AskAgain { $connection, $attempts, requests: 0 });",
            "let _ = $attempts;",
        )],
    ),
    fault(
        "session: calls that were not sent wait for a node without a connection",
        "Core::give_up_unsent",
        &[("!$call.handle.abandon($attempt)", "true")],
    ),
    fault(
        "session: calls that were sent are taken for calls that were not",
        "Core::give_up_unsent",
        &[("!$call.handle.abandon($attempt)", "{ $call.handle.abandon($attempt); false }")],
    ),
    fault(
        "session: a call that was cancelled while its node was away is not stopped",
        "Core::ask_again",
        &[("!core.is_current($call, $id, $attempt)", "false")],
    ),
    fault(
        "session: a node is told too soon that it was asked for all",
        "Core::ask_again",
        &[("$requests.set($requests.get() + 1);", "")],
    ),
    fault(
        "session: a node that has received none of its calls is waited for",
        "Core::keep_sent",
        &[("self.end_absence($now, $connection.node, $effects);", "")],
    ),
    fault(
        "session: a node that is silent because it has no connection is cut off",
        "Core::look_at",
        &[(".filter(|$node| $node.absence.is_none())", "")],
    ),
    fault(
        "session: a process that was started anew is taken for two",
        "Core::on_node_joined",
        &[("self.end_absences_of_predecessors($now, $id, $effects);", "")],
    ),
];
