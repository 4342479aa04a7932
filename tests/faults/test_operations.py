"""What an operator sees when actors cannot be built."""

from __future__ import annotations

import pytest

from tddfa3.errors import UserError
from tests.faults.arena import Arena
from tests.support.fakes import FakeFactory


@pytest.mark.parametrize("error", [UserError("no weights"), RuntimeError("out of luck")])
def test_an_actor_that_cannot_be_built_is_exit_code_4_and_one_line(
    arena: Arena, error: Exception
) -> None:
    arena.write_shard("a", 3)
    done = arena.label(factory=FakeFactory(build_error=error))
    done.expect(4)
    [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "could not be built" in line
    assert str(error) in line
    assert "Traceback" not in done.err
    assert arena.committed() == 0
