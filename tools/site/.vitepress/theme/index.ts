// The default theme without the font that it brings along: pages use the system's.
import DefaultTheme from 'vitepress/theme-without-fonts'
import './style.css'

export default DefaultTheme
