"""Control of a live session from outside, and by itself.

osc         Open Sound Control over UDP
midi        MIDI controls, with learn mode
presets     named looks and own keys, from a TOML file
modulation  values that change by themselves: LFOs, audio level, beat
beat        tempo and beat, by tapping, OSC, MIDI clock or from audio
memory      what was used last
"""
