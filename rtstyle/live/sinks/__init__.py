"""Where a live session's frames go beside the window.

sink             the protocol
outputs          which sinks are wanted, checked before anything is opened
recording        a file
stream           a network address or HLS; ``stream_process`` is the program that sends, ``playlist`` places HLS on disk
virtual_camera   a camera that other programs see
own              a caller's own ``FrameSink``
"""
