//! Where things stand on the screen: one column or two, each panel as high as what it says, the plot with what is left.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, Paragraph, Wrap};

use super::App;
use super::data::{Look, Rows, Stage};
use super::panels::{Panel, panel};
use super::words::{count, short, span};

/// From this width on there are two columns.
const TWO_COLUMNS: u16 = 110;
/// Rows of the plot, with its frame, where there is no more room than that.
const PLOT: u16 = 10;
/// A panel of fewer rows says nothing.
const LOWEST: u16 = 3;
/// The panel that is a plot.
const SERIES: &str = "Series";

const ONE: &[&str] = &["Budget", "Control", "Culprits", SERIES, "Profiles", "Most series", "Entities", "Decisions"];
const LEFT: &[&str] = &["Budget", "Profiles", SERIES, "Most series"];
const RIGHT: &[&str] = &["Control", "Culprits", "Entities", "Decisions"];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    header(frame, head, app);
    let keys = "q quit   up, down scroll   tab next stage";
    frame.render_widget(Line::from(short(keys, usize::from(foot.width))).dark_gray(), foot);
    let two = body.width >= TWO_COLUMNS;
    app.scroll = app.scroll.min(if two { 0 } else { ONE.len() - 1 });
    let Some((look, stage)) = app.shown() else { return message(frame, body, app) };
    if two {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(body);
        column(frame, left, LEFT, look, stage);
        column(frame, right, RIGHT, look, stage);
    } else {
        column(frame, body, ONE.get(app.scroll..).unwrap_or_default(), look, stage);
    }
}

/// Who is looked at, and how fresh that is.
fn header(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let mut line = vec![Span::from("phoenix top ").bold()];
    if let Some((look, stage)) = app.shown() {
        line.push(Span::from(format!("{} {} ", stage.pipeline, stage.processor)).cyan());
        let stages = look.state.stages.len();
        if stages > 1 {
            line.push(Span::from(format!("({} of {stages}) ", app.chosen % stages + 1)));
        }
    }
    let left = Line::from(line);
    let fresh = match (&app.error, app.age()) {
        (None, _) => Span::from("live").green(),
        (Some(_), Some(age)) => Span::from(format!("last seen {} ago", span(Some(age)))).red(),
        (Some(_), None) => Span::from("nothing seen").red(),
    };
    let mut right = Line::from(vec![fresh, Span::from(format!(" {}", app.address)).dark_gray()]);
    if left.width() + right.width() > usize::from(area.width) {
        right.spans.truncate(1);
    }
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX);
    let [a, b] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    frame.render_widget(left, a);
    frame.render_widget(right, b);
}

/// What is said where there is no stage to show.
fn message(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let text = match (&app.error, &app.look) {
        (Some(error), _) => error.clone(),
        (None, None) => format!("asking the agent at {} ...", app.address),
        (None, Some(_)) => {
            "No pipeline of this agent has a stage with profiles. The processor `adaptive` is one.".into()
        }
    };
    let block = Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().fg(Color::DarkGray));
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
}

/// Panels one below the other. The plot, or else the last one, takes what is left; what finds no room is left out.
fn column(frame: &mut Frame<'_>, area: Rect, titles: &[&'static str], look: &Look, stage: &Stage) {
    let inside = usize::from(area.width.saturating_sub(4));
    let panels: Vec<Panel> = titles.iter().map(|title| panel(title, look, stage, inside)).collect();
    let height = |panel: &Panel| match panel.title {
        SERIES => PLOT,
        _ => u16::try_from(panel.lines.len()).unwrap_or(u16::MAX).saturating_add(2),
    };
    let total = panels.iter().map(height).fold(0, u16::saturating_add);
    let stretched = panels.iter().position(|panel| panel.title == SERIES).unwrap_or(panels.len().saturating_sub(1));
    let mut top = area.y;
    for (at, panel) in panels.iter().enumerate() {
        let left = area.bottom().saturating_sub(top);
        if left < LOWEST {
            return;
        }
        let extra = if at == stretched { area.height.saturating_sub(total) } else { 0 };
        let here = Rect { y: top, height: height(panel).saturating_add(extra).min(left), ..area };
        top += here.height;
        let mut title = vec![Span::from(format!(" {} ", panel.title)).bold()];
        if panel.title == SERIES {
            title.extend(["in ".blue(), "out ".green(), "budget ".yellow()]);
        }
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(Style::new().fg(Color::DarkGray))
            .title(Line::from(title));
        if panel.title == SERIES {
            plot(frame, block.inner(here), look, stage);
            frame.render_widget(block, here);
        } else {
            let block = block.padding(ratatui::widgets::Padding::horizontal(1));
            frame.render_widget(Paragraph::new(panel.lines.clone()).block(block), here);
        }
    }
}

/// Series in and out over time, with the budget.
fn plot(frame: &mut Frame<'_>, area: Rect, look: &Look, stage: &Stage) {
    let history = match &look.history {
        Ok(history) => history,
        Err(why) => return frame.render_widget(Paragraph::new(why.clone()).dark_gray(), area),
    };
    let own = |rows: &&Rows| rows.pipeline == stage.pipeline && rows.processor == stage.processor;
    let column = |name: &str| history.stages.iter().find(own).map(|rows| rows.column(name)).unwrap_or_default();
    let [incoming, out] = ["series_in", "steered"].map(column);
    let points = || incoming.iter().chain(&out);
    let (Some(first), Some(last)) =
        (points().map(|(time, _)| *time).reduce(f64::min), points().map(|(time, _)| *time).reduce(f64::max))
    else {
        return frame.render_widget(Paragraph::new("nothing measured yet").dark_gray(), area);
    };
    let highest = points().map(|(_, value)| *value).chain(stage.budget).fold(1.0, f64::max) * 1.05;
    let width = (last - first).max(1.0);
    let budget: Vec<(f64, f64)> = stage
        .budget
        .map(|budget| (0..=240).map(|step| (first + width * f64::from(step) / 240.0, budget)).collect())
        .unwrap_or_default();
    let set = |data, kind, color| {
        Dataset::default().data(data).marker(Marker::Braille).graph_type(kind).style(Style::new().fg(color))
    };
    let sets = vec![
        set(&budget, GraphType::Scatter, Color::Yellow),
        set(&incoming, GraphType::Line, Color::Blue),
        set(&out, GraphType::Line, Color::Green),
    ];
    let gray = Style::new().fg(Color::DarkGray);
    let chart = Chart::new(sets)
        .legend_position(None)
        .x_axis(
            Axis::default()
                .bounds([first, first + width])
                .labels([format!("{} ago", span(Some(width))), "now".to_owned()])
                .style(gray),
        )
        .y_axis(
            Axis::default()
                .bounds([0.0, highest])
                .labels(["0".to_owned(), count(Some(highest / 2.0)), count(Some(highest))])
                .style(gray),
        );
    frame.render_widget(chart, area);
}
