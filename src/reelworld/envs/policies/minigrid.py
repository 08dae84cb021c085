"""Policies for MiniGrid worlds: a noisy solver and a sub-goal explorer that uses keys and doors a lot.

Random play unlocks a door once in 7,000 steps; a solver ends its episode as soon as the goal is reached. The
explorer strolls, fetches, drops, opens and shuts, and sometimes carries an object for a long time before using
it, so that a world sees every event often, also long after a pick up. Both act at random in 5-50% of steps.
Models of fixed windows want episodes that are long enough: ``waypoints`` takes a walk before it solves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reelworld.types import UserError

if TYPE_CHECKING:
    import numpy as np

    from reelworld.envs.simulator import Simulator

__all__ = ["carrier", "explorer", "glancer", "solver", "waypoints"]

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
FACING = -1
"""What ``_way`` says when the agent faces the cell already."""

LEAST_FRAMES = 40
"""Frames of every episode of ``waypoints``."""

Cell = tuple[int, int]


def solver(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Fetch the key, open the door, go to the goal; noisy."""
    return _noisy(_solve(_world(simulator), rng), simulator, rng)


def explorer(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Follow one random sub-goal after the other; noisy."""
    return _noisy(_explore(_world(simulator), rng), simulator, rng)


def carrier(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Fetch an object, carry it for 25-45 steps, then use or drop it, without noise; then the episode ends."""
    env = _world(simulator)
    yield from _fetch(env, rng)
    yield from _carry_on(env, rng)


def waypoints(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Visit two random cells, go back and forth between them for a while, then solve the task; without noise.

    Episodes have at least 40 frames: the walk goes on while the straightest way to the goal could be shorter
    than what is missing.
    """
    env = _world(simulator)
    cells = _two_cells(env, rng)
    n_steps, n_visits = 0, 0
    while n_visits < 2 or n_steps + _least_left(env) < LEAST_FRAMES - 1:
        n_before = n_steps
        for action in _go_to(env, cells[n_visits % 2]):
            yield action
            n_steps += 1
            if n_visits >= 2 and n_steps + _least_left(env) >= LEAST_FRAMES - 1:
                break
        if n_steps == n_before:  # there is no other cell, or something bars the way
            yield LEFT
            n_steps += 1
        n_visits += 1
    yield from _solve(env, rng)


def glancer(simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Walk about, and again and again turn to one side, wait there for 1 to 20 frames, and turn back.

    In the agent's own view (the observation, not the map) what lies on the other side is then out of sight: what is
    there on turning back must be remembered.
    """
    _world(simulator)
    while True:
        for _ in range(rng.integers(1, 7)):
            yield int(rng.choice([LEFT, RIGHT, FORWARD, FORWARD]))
        away, back = (LEFT, RIGHT) if rng.random() < 0.5 else (RIGHT, LEFT)
        yield away
        for _ in range(rng.integers(0, 20)):
            yield DONE  # does nothing
        yield back


def _world(simulator: Simulator) -> Any:
    env: Any = simulator.env.unwrapped
    if not hasattr(env, "grid") or simulator.action_spec.n < TOGGLE + 1:
        raise UserError(
            f"this policy needs a MiniGrid world; {simulator.config.env_id} came, use 'random' or your own."
        )
    return env


def _noisy(plan: Iterator[int], simulator: Simulator, rng: np.random.Generator) -> Iterator[int]:
    """Mix random actions into a plan; plans look at the state anew whenever they are asked."""
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
        n_actions = 0
        for action in goal(env, rng):
            n_actions += 1
            yield action
        if n_actions == 0:  # the sub-goal cannot be reached from here
            yield int(rng.choice([LEFT, RIGHT, FORWARD]))


def _stroll(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Go to a random free cell."""
    free = [c for c in _all_cells(env) if env.grid.get(*c) is None and c != tuple(env.agent_pos)]
    if free:
        target = free[int(rng.integers(len(free)))]
        yield from _go_to(env, target)


def _fetch(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Pick up a random object."""
    things = [c for c in _all_cells(env) if (thing := env.grid.get(*c)) and thing.can_pickup()]
    if things:
        target = things[int(rng.integers(len(things)))]
        yield from _face(env, target)
        if _way(env, target) == FACING:
            yield PICK_UP


def _put_down(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Drop what is carried on a random free cell, near or far."""
    free = [c for c in _all_cells(env) if env.grid.get(*c) is None and c != tuple(env.agent_pos)]
    near = [c for c in free if abs(c[0] - env.agent_pos[0]) + abs(c[1] - env.agent_pos[1]) <= 2]
    choices = near if near and rng.random() < 0.6 else free
    if choices:
        target = choices[int(rng.integers(len(choices)))]
        yield from _face(env, target)
        if _way(env, target) == FACING:
            yield DROP


def _use_door(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Toggle a random door one to four times, perhaps looking away in between."""
    doors = _cells(env, "door")
    if doors:
        target = doors[int(rng.integers(len(doors)))]
        for _ in range(int(rng.integers(1, 5))):
            yield from _face(env, target)
            if _way(env, target) != FACING:
                return
            yield TOGGLE
            if rng.random() < 0.3:
                yield int(rng.choice([LEFT, RIGHT]))


def _carry_on(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Stroll with an object for 25-45 steps, past many places to drop it, then use or drop it."""
    left = int(rng.integers(25, 46))
    while left > 0 and env.carrying is not None:
        n_actions = 0
        for action in _stroll(env, rng):
            n_actions += 1
            left -= 1
            yield action
        if n_actions == 0:
            left -= 1
            yield int(rng.choice([LEFT, RIGHT]))
    if env.carrying is not None:
        last = _use_door if rng.random() < 0.65 else _put_down
        yield from last(env, rng)


def _finish(env: Any, rng: np.random.Generator) -> Iterator[int]:
    """Solve the task for up to 40 steps."""
    for _ in range(40):
        yield _solver_action(env, rng)


def _go_to(env: Any, target: Cell) -> Iterator[int]:
    """Walk onto a free cell, if a way leads there."""
    yield from _face(env, target)
    if _way(env, target) == FACING:
        yield FORWARD


def _face(env: Any, target: Cell) -> Iterator[int]:
    """Walk until the agent faces a cell; end when it does or when no way leads there."""
    while (action := _way(env, target)) not in (None, FACING):
        assert action is not None
        yield action


def _reach(env: Any, targets: list[Cell], act: int) -> int | None:
    """The next action to face the first target with a way to it, ``act`` once there, None without a way."""
    for target in targets:
        if (action := _way(env, target)) is not None:
            return act if action == FACING else action
    return None


def _way(env: Any, target: Cell) -> int | None:
    """The next action on a shortest way to stand before a cell and face it; FACING there, None without a way."""
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
    wanted = distance[x, y] - 1
    best = [d for d, cell in enumerate(_neighbours((x, y))) if distance.get(cell) == wanted]
    turns = min(((d - int(env.agent_dir)) % 4 for d in best), key=lambda turn: (0, 1, 2, 1)[turn])
    return (FORWARD, RIGHT, (LEFT, RIGHT)[(x + y) % 2], LEFT)[turns]


def _neighbours(cell: Cell) -> tuple[Cell, Cell, Cell, Cell]:
    """Cells to the right, below, to the left, above: the order of the agent's directions."""
    x, y = cell
    return (x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)


def _is_open(thing: Any) -> bool:
    """True for cells one can walk through; goals and lava would end the episode."""
    return thing is None or (thing.type in ("door", "floor") and thing.can_overlap())


def _two_cells(env: Any, rng: np.random.Generator) -> list[Cell]:
    """Draw two free cells that the agent can walk to, other than its own; where they are missing, its own as well."""
    start = (int(env.agent_pos[0]), int(env.agent_pos[1]))
    found, queue = {start}, deque([start])
    while queue:
        for cell in _neighbours(queue.popleft()):
            if cell not in found and _is_open(env.grid.get(*cell)):
                found.add(cell)
                queue.append(cell)
    free = sorted(c for c in found - {start} if env.grid.get(*c) is None)
    drawn = [free[int(i)] for i in rng.permutation(len(free))]
    return [*drawn, start, start][:2]


def _least_left(env: Any) -> int:
    """Steps that no way to a goal can be shorter than; 0 without a goal."""
    x, y = map(int, env.agent_pos)
    return min((abs(a - x) + abs(b - y) for a, b in _cells(env, "goal")), default=0)


def _all_cells(env: Any) -> list[Cell]:
    """Every cell inside the outer wall."""
    return [(x, y) for y in range(1, env.grid.height - 1) for x in range(1, env.grid.width - 1)]


def _cells(env: Any, kind: str) -> list[Cell]:
    """Cells that hold a kind of object."""
    width = env.grid.width
    return [(i % width, i // width) for i, thing in enumerate(env.grid.grid) if thing and thing.type == kind]
