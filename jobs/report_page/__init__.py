"""What :mod:`jobs.report` puts on its page: Python collects, the template and the scripts show.

``facts`` counts and samples, ``gallery`` chooses faces, ``pictures`` makes their thumbnails,
``speed`` reads the logs, ``meshes`` makes faces again, ``render`` makes one HTML file of
everything.
"""
