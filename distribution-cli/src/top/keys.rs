//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    rows::{Panel, RowId, can_be_cancelled},
    state::{Action, App, Message, Mode, Question},
};

/// What the owner of the terminal is to do after a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Quit,
    Do(Question),
}

/// A filter is no longer than this.
const LONGEST_FILTER: usize = 100;

impl App {
    /// A key was pressed.
    pub(super) fn on_key(&mut self, key: KeyEvent) -> Step {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Step::Quit } else { Step::Stay };
        }
        self.message = None;
        match self.mode.clone() {
            Mode::Looking => return self.on_key_looking(key.code),
            Mode::Filtering => self.on_key_filtering(key.code),
            Mode::Helping => self.mode = Mode::Looking,
            Mode::Asking(question) => {
                self.mode = Mode::Looking;
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return Step::Do(question);
                }
                self.say(format!("did not {}", question.what));
            }
        }
        Step::Stay
    }

    fn on_key_looking(&mut self, code: KeyCode) -> Step {
        let page = isize::try_from(self.view().height).unwrap_or(isize::MAX);
        match code {
            KeyCode::Char('q') => return Step::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Step::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Helping,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Panel::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='9') => {
                let panel = digit.to_digit(10).and_then(|digit| Panel::ALL.get(digit as usize - 1));
                self.panel = panel.copied().unwrap_or(self.panel);
            }
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-page),
            KeyCode::PageDown => self.move_by(page),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            KeyCode::Char('s') => self.sort_by_next(),
            KeyCode::Char('r') => self.view_mut().is_reversed ^= true,
            KeyCode::Char('p') => self.is_paused ^= true,
            KeyCode::Char('/') => self.mode = Mode::Filtering,
            KeyCode::Char('c') => self.ask_to_cancel(),
            KeyCode::Char('d') => self.ask_about_node(|_| "drain", |id, _| Action::Drain(id)),
            KeyCode::Char('o') => self.ask_about_node(
                |is_cordoned| if is_cordoned { "uncordon" } else { "cordon" },
                |id, is_cordoned| if is_cordoned { Action::Uncordon(id) } else { Action::Cordon(id) },
            ),
            _ => {}
        }
        Step::Stay
    }

    fn on_key_filtering(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::Looking,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Looking;
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(letter) if self.filter.len() < LONGEST_FILTER && !letter.is_control() => {
                self.filter.push(letter);
            }
            KeyCode::Up => self.move_by(-1),
            KeyCode::Down => self.move_by(1),
            _ => {}
        }
    }

    /// Shows the panel that is this many further.
    fn turn(&mut self, panels: usize) {
        self.panel = Panel::ALL[(self.panel as usize + panels) % Panel::ALL.len()];
    }

    fn ask_to_cancel(&mut self) {
        let Some(RowId::Call(id)) = self.selected().cloned() else {
            return self.refuse("select a call to cancel: key 2 lists the calls");
        };
        let calls = self.snapshot.iter().flat_map(|snapshot| &snapshot.calls);
        match calls.into_iter().find(|call| call.id == id) {
            Some(call) if can_be_cancelled(call) => {
                let calls = if call.count > 1 { format!(", a batch of {} calls", call.count) } else { String::new() };
                let what = format!("cancel call {id} of {}{calls}", call.method);
                self.mode = Mode::Asking(Question { action: Action::Cancel(id), what });
            }
            Some(_) => self.refuse("this call has ended, and its handler was told to stop"),
            None => self.refuse("this call is not there any more"),
        }
    }

    fn ask_about_node(
        &mut self,
        verb: impl Fn(bool) -> &'static str,
        action: impl Fn(distribution::NodeId, bool) -> Action,
    ) {
        let Some(RowId::Node(id)) = self.selected().cloned() else {
            return self.refuse("select a node: key 1 lists the nodes");
        };
        let nodes = self.snapshot.iter().flat_map(|snapshot| &snapshot.nodes);
        match nodes.into_iter().find(|node| node.id == id) {
            Some(node) => {
                let what = format!("{} {} ({id})", verb(node.is_cordoned), node.name);
                self.mode = Mode::Asking(Question { action: action(id, node.is_cordoned), what });
            }
            None => self.refuse("this node is not registered any more"),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.message = Some(Message { text: why.to_owned(), is_error: true });
    }

    fn say(&mut self, text: String) {
        self.message = Some(Message { text, is_error: false });
    }
}
