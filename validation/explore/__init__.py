"""The explorer: sliders on one allocation problem, everything redrawn from the allocator at each move.

One way only: `controls` turns slider positions into a problem and the bound's constants, `view` asks `kktalloc` about
them, `text` and `page` show the answer, `server` serves the page to this machine alone.
"""
