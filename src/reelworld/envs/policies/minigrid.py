"""Policies for MiniGrid: a noisy solver, a sub-goal explorer that uses keys and doors a lot, and three for tests.

Random play unlocks a door once in 7,000 steps; a solver ends its episode at the goal. The explorer strolls, fetches,
drops, opens and shuts, and sometimes carries an object for a long time before it uses it. Recordings then hold every
event often, also long after a pick-up. Explorer and solver take 5-50% random actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reelworld.envs.simulator import Simulator
from reelworld.types import UserError

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
FACING = -1
"""Result of ``_next_action`` when the agent faces the cell already."""

MIN_FRAMES = 40
"""Shortest episode of ``waypoints``: models of fixed windows need long enough ones."""

Cell = tuple[int, int]


def solver(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Fetch the key, open the door, go to the goal; noisy."""
    return _noisy(_solve(_minigrid(simulator), rng), simulator, rng)


def explorer(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Follow one random sub-goal after the other; noisy."""
    return _noisy(_explore(_minigrid(simulator), rng), simulator, rng)


def carrier(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Fetch an object, carry it for 25-45 steps, then use or drop it, without noise; then the episode ends."""
    env = _minigrid(simulator)
    yield from _fetch(env, rng)
    yield from _carry_on(env, rng)


def waypoints(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Visit two random cells, go back and forth between them for a while, then solve the task; without noise.

    Episodes have at least 40 frames: the walk goes on while the way to the goal could be too short for the rest.
    """
    env = _minigrid(simulator)
    cells = _draw_waypoints(env, rng)
    n_steps, n_visits = 0, 0
    while n_visits < 2 or n_steps + _min_steps_left(env) < MIN_FRAMES - 1:
        n_before = n_steps
        for action in _go_to(env, cells[n_visits % 2]):
            yield action
            n_steps += 1
            if n_visits >= 2 and n_steps + _min_steps_left(env) >= MIN_FRAMES - 1:
                break
        if n_steps == n_before:  # no other cell, or no path
            yield LEFT
            n_steps += 1
        n_visits += 1
    yield from _solve(env, rng)


def glancer(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Walk about; every few steps turn to one side, wait, and turn back.

    In the agent's own view (the observation, not the map) the other side is then out of sight for 1 to 20 frames: a
    model must remember it.
    """
    _minigrid(simulator)
    while True:
        for _ in range(rng.integers(1, 7)):
            yield int(rng.choice([LEFT, RIGHT, FORWARD, FORWARD]))
        away, back = (LEFT, RIGHT) if rng.random() < 0.5 else (RIGHT, LEFT)
        yield away
        for _ in range(rng.integers(0, 20)):
            yield DONE  # does nothing
        yield back


def _minigrid(simulator: Simulator) -> Any:
    env: Any = simulator.env.unwrapped
    if not hasattr(env, "grid") or simulator.action_spec.n < TOGGLE + 1:
        raise UserError(
            f"this policy needs a MiniGrid world; {simulator.config.env_id} came, use 'random' or your own."
        )
    return env


def _noisy(plan: Iterator[int], simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Mix random actions into a plan; a plan reads the state again for each action."""
    noise = rng.uniform(0.05, 0.5)
    while True:
        yield int(rng.integers(simulator.action_spec.n)) if rng.random() < noise else next(plan)


def _solve(env: Any, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield _solver_action(env, rng)


def _solver_action(env: Any, rng: np.random.Generator) -> int:
    if (action := _reach(env, _cells(env, "goal"), FORWARD)) is not None:
        return action
    doors = [c for c in _cells(env, "door") if not env.grid.get(*c).is_open]
    held = env.carrying.color if env.carrying and env.carrying.type == "key" else None
    usable = [c for c in doors if not env.grid.get(*c).is_locked or env.grid.get(*c).color == held]
    if (action := _reach(env, usable, TOGGLE)) is not None:
        return action
    colors = {env.grid.get(*c).color for c in doors if env.grid.get(*c).is_locked}
    keys = [c for c in _cells(env, "key") if env.grid.get(*c).color in colors]
    if env.carrying is None and (action := _reach(env, keys, PICK_UP)) is not None:
        return action
    return int(rng.choice([LEFT, RIGHT, FORWARD, FORWARD]))


def _explore(env: Any, rng: np.random.Generator) -> Iterator[int]:
    while True:
        has_door = bool(_cells(env, "door"))
        if env.carrying is not None:
            goals = {_put_down: 0.22, _carry_on: 0.22, _use_door: 0.34 * has_door, _stroll: 0.17, _finish: 0.05}
        else:
            goals = {_fetch: 0.5, _use_door: 0.25 * has_door, _stroll: 0.2, _finish: 0.05}
        weights = [w / sum(goals.values()) for w in goals.values()]
        goal = list(goals)[int(rng.choice(len(goals), p=weights))]
        yield from _or_random(goal(env, rng), rng, (LEFT, RIGHT, FORWARD))


def _or_random(actions: Iterator[int], rng: np.random.Generator, choices: Sequence[int]) -> Iterator[int]:
    """Yield the actions of a sub-goal, or one random choice where it cannot be reached from here."""
    is_empty = True
    for action in actions:
        is_empty = False
        yield action
    if is_empty:
        yield int(rng.choice(choices))


def _stroll(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Go to a random free cell."""
    if free := _free_cells(env):
        yield from _go_to(env, _pick(free, rng))


def _fetch(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Pick up a random object."""
    things = [c for c in _inner_cells(env) if (thing := env.grid.get(*c)) and thing.can_pickup()]
    if things:
        target = _pick(things, rng)
        yield from _face(env, target)
        if _next_action(env, target) == FACING:
            yield PICK_UP


def _put_down(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Drop the carried object on a random free cell, near or far."""
    free = _free_cells(env)
    near = [c for c in free if abs(c[0] - env.agent_pos[0]) + abs(c[1] - env.agent_pos[1]) <= 2]
    choices = near if near and rng.random() < 0.6 else free
    if choices:
        target = _pick(choices, rng)
        yield from _face(env, target)
        if _next_action(env, target) == FACING:
            yield DROP


def _use_door(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Toggle a random door one to four times, perhaps turning away in between."""
    if doors := _cells(env, "door"):
        target = _pick(doors, rng)
        for _ in range(int(rng.integers(1, 5))):
            yield from _face(env, target)
            if _next_action(env, target) != FACING:
                return
            yield TOGGLE
            if rng.random() < 0.3:
                yield int(rng.choice([LEFT, RIGHT]))


def _carry_on(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Stroll with an object for 25-45 steps, then use or drop it."""
    left = int(rng.integers(25, 46))
    while left > 0 and env.carrying is not None:
        for action in _or_random(_stroll(env, rng), rng, (LEFT, RIGHT)):
            left -= 1
            yield action
    if env.carrying is not None:
        last = _use_door if rng.random() < 0.65 else _put_down
        yield from last(env, rng)


def _finish(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Solve the task for up to 40 steps."""
    for _ in range(40):
        yield _solver_action(env, rng)


def _go_to(env: Any, target: Cell) -> Iterator[int]:
    """Walk onto a free cell, if there is a path."""
    yield from _face(env, target)
    if _next_action(env, target) == FACING:
        yield FORWARD


def _face(env: Any, target: Cell) -> Iterator[int]:
    """Walk until the agent faces a cell or there is no path."""
    while (action := _next_action(env, target)) not in (None, FACING):
        assert action is not None
        yield action


def _reach(env: Any, targets: list[Cell], act: int) -> int | None:
    """Return the next action towards the first reachable target, ``act`` once the agent faces it, None without one."""
    for target in targets:
        if (action := _next_action(env, target)) is not None:
            return act if action == FACING else action
    return None


def _next_action(env: Any, target: Cell) -> int | None:
    """Return the next action of a shortest path to face a cell; FACING at its end, None without a path."""
    grid, (x, y) = env.grid, map(int, env.agent_pos)
    ahead = (x + (1, 0, -1, 0)[env.agent_dir], y + (0, 1, 0, -1)[env.agent_dir])
    if ahead == target:
        return FACING
    width, cells = grid.width, grid.grid
    distance = {target: 0}
    queue = deque([target])
    while queue and (x, y) not in distance:
        cell = queue.popleft()
        for step in _neighbours(cell):
            if step not in distance and (step == (x, y) or _is_open(cells[step[1] * width + step[0]])):
                distance[step] = distance[cell] + 1
                queue.append(step)
    if (x, y) not in distance or target == (x, y):
        return None
    best = [d for d, cell in enumerate(_neighbours((x, y))) if distance.get(cell) == distance[x, y] - 1]
    turns = min(((d - int(env.agent_dir)) % 4 for d in best), key=lambda turn: (0, 1, 2, 1)[turn])
    return (FORWARD, RIGHT, (LEFT, RIGHT)[(x + y) % 2], LEFT)[turns]


def _neighbours(cell: Cell) -> tuple[Cell, Cell, Cell, Cell]:
    """Return the cells right, below, left and above: the order of the agent's directions."""
    x, y = cell
    return (x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)


def _is_open(thing: Any) -> bool:
    """Return True for cells to walk through; goals and lava would end the episode."""
    return thing is None or (thing.type in ("door", "floor") and thing.can_overlap())


def _draw_waypoints(env: Any, rng: np.random.Generator) -> list[Cell]:
    """Draw two free cells that the agent can reach, other than its own; its own where there are fewer."""
    start = (int(env.agent_pos[0]), int(env.agent_pos[1]))
    reached, queue = {start}, deque([start])
    while queue:
        for cell in _neighbours(queue.popleft()):
            if cell not in reached and _is_open(env.grid.get(*cell)):
                reached.add(cell)
                queue.append(cell)
    free = sorted(c for c in reached - {start} if env.grid.get(*c) is None)
    drawn = [free[int(i)] for i in rng.permutation(len(free))]
    return [*drawn, start, start][:2]


def _min_steps_left(env: Any) -> int:
    """Return a lower bound of the steps to a goal; 0 without a goal."""
    x, y = map(int, env.agent_pos)
    return min((abs(a - x) + abs(b - y) for a, b in _cells(env, "goal")), default=0)


def _pick(cells: list[Cell], rng: np.random.Generator) -> Cell:
    return cells[int(rng.integers(len(cells)))]


def _free_cells(env: Any) -> list[Cell]:
    """Return the empty cells inside the outer wall, without the agent's."""
    return [c for c in _inner_cells(env) if env.grid.get(*c) is None and c != tuple(env.agent_pos)]


def _inner_cells(env: Any) -> list[Cell]:
    """Return the cells inside the outer wall."""
    return [(x, y) for y in range(1, env.grid.height - 1) for x in range(1, env.grid.width - 1)]


def _cells(env: Any, kind: str) -> list[Cell]:
    """Return the cells with a kind of object."""
    width = env.grid.width
    return [(i % width, i // width) for i, thing in enumerate(env.grid.grid) if thing and thing.type == kind]
